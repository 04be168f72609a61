"""Which tokens are in the KV cache, and how a new prompt reuses them.

``history`` compares what is cached with what is wanted, ``cells`` counts the cells, ``sequence``
keeps one sequence and its record in step, ``park`` holds states in host memory, and ``pool`` finds
and makes room.
"""

from .history import NO_GAP, Gap, History, common_prefix, reusable
from .park import MemoryStore, Parked, StateStore, best_rated
from .pool import WORTH_WAITING, SequencePool
from .sequence import Sequence

__all__ = [
    "NO_GAP",
    "WORTH_WAITING",
    "Gap",
    "History",
    "MemoryStore",
    "Parked",
    "Sequence",
    "SequencePool",
    "StateStore",
    "best_rated",
    "common_prefix",
    "reusable",
]
