"""States in memory first, and in a folder when they leave it: they outlive the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..cache import History, MemoryStore, Parked
from .folder import Stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..decoder import State
    from .folder import StateFolder


class TieredStore:
    """A :class:`~edge_llama.cache.StateStore` of ``max_bytes`` in memory, above a folder."""

    persists = True

    def __init__(self, max_bytes: int, folder: StateFolder) -> None:
        self._folder = folder
        self._memory = MemoryStore(max_bytes, leaving=folder.save)

    def save(self, history: History, nbytes: int, read: Callable[[], State]) -> None:
        """Keep the state; the oldest go to the folder. What is there already stays there."""
        if not isinstance(history, Stored):
            self._memory.save(history, nbytes, read)

    def checkpoint(self, history: History, read: Callable[[], State]) -> None:
        """Keep a copy in the folder."""
        self._folder.save(history, read())

    def find(self, rate: Callable[[History], int]) -> Parked | None:
        """Return the best state of both."""
        memory, folder = self._memory.find(rate), self._folder.find(rate)
        if memory is None or folder is None:
            return memory or folder
        return memory if rate(memory) >= rate(folder) else folder

    def restore(self, parked: Parked) -> State | None:
        """Hand a state out; one in the folder stays there."""
        if isinstance(parked, Stored):
            return self._folder.load(parked)
        return self._memory.restore(parked)

    def close(self) -> None:
        """Write all that is only in memory."""
        self._memory.close()
