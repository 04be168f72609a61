"""States of sequences on disk: what was read once is never prefilled again.

``statefile`` is the format of one state, ``folder`` a bounded folder of them, ``fingerprint``
what they depend on.
"""

from .fingerprint import fingerprint
from .folder import StateFolder, Stored
from .statefile import StateFile

__all__ = ["StateFile", "StateFolder", "Stored", "fingerprint"]
