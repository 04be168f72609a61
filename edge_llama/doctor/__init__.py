"""What this installation can do, what it lacks, and what is broken.

llama.cpp is asked in a process of its own, so that a broken one is a finding and not a crash.
"""

from .check import Check, State
from .examine import examine

__all__ = ["Check", "State", "examine"]
