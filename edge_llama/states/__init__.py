"""States of sequences on disk: what was read once is never prefilled again.

``statefile`` is the format of one state, ``folder`` a bounded folder of them, ``fingerprint``
what they depend on, and ``store`` puts a folder below the states in memory.
"""

from .fingerprint import fingerprint
from .folder import StateFolder, Stored
from .statefile import StateFile
from .store import TieredStore

__all__ = ["StateFile", "StateFolder", "Stored", "TieredStore", "fingerprint"]
