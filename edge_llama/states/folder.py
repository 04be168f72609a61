"""A bounded folder of states; the least recently used go first.

It is a cache and nothing more: whatever goes wrong with it (a full disk, a damaged file, another
process that removed one) means a prefill, never an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from typing import TYPE_CHECKING

from ..cache import History, Parked, best_rated, reusable
from .statefile import DamagedStateError, StateFile, write_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

logger = logging.getLogger("edge_llama.states")

_SUFFIX = ".state"


class Stored(Parked):
    """A state in a file."""

    def __init__(self, file: StateFile) -> None:
        super().__init__(file.history.tokens, file.history.gap, file.nbytes)
        self.file = file


class StateFolder:
    """The states of one fingerprint in ``root/fingerprint``; the bound holds for all of ``root``.

    Safe to use from several threads and processes.
    """

    def __init__(self, root: Path, fingerprint: str, *, max_bytes: int) -> None:
        self._root, self._folder, self._max_bytes = root, root / fingerprint, max_bytes
        self._lock = threading.Lock()
        self._known: dict[str, Stored] = {}

    def save(self, history: History, state: bytes | memoryview) -> bool:
        """Keep the state of ``history``; False if it was not kept.

        States of a beginning of it go: this one can be cut back to them.
        """
        if not history.tokens or len(state) > self._max_bytes:
            return False
        name = hashlib.sha256(repr((history.tokens, history.gap)).encode()).hexdigest()[:32]
        with self._lock:
            try:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                for older in self._scan():
                    if reusable(history, older, can_shift=False) == len(older.tokens):
                        self._forget(older)
                self._make_room(len(state))
                write_state(self._folder / (name + _SUFFIX), history, state)
            except OSError as error:
                logger.warning("a state was not saved: %s", error)
                return False
        return True

    def find(self, rate: Callable[[History], int]) -> Stored | None:
        """Return the state that ``rate`` gives most, if any gets more than 0."""
        with self._lock:
            stored = self._scan()
        return best_rated(stored, rate)

    def load(self, stored: Stored) -> bytes | None:
        """Return the state's bytes, or None when it is damaged or gone; it counts as used."""
        with self._lock:
            try:
                state = stored.file.load()
                os.utime(stored.file.path)
            except (DamagedStateError, OSError) as error:
                logger.warning("a state is not used: %s", error)
                self._forget(stored)
                return None
        return state

    def _scan(self) -> list[Stored]:
        """Return the readable states; heads are read once."""
        names = {path.name: path for path in _files(self._folder)}
        for name in self._known.keys() - names.keys():
            del self._known[name]
        for name, path in names.items():
            if name not in self._known:
                try:
                    self._known[name] = Stored(StateFile.open(path))
                except (DamagedStateError, OSError) as error:
                    logger.warning("a state is removed: %s", error)
                    with contextlib.suppress(OSError):
                        path.unlink()
        return list(self._known.values())

    def _forget(self, stored: Stored) -> None:
        path = stored.file.path
        self._known.pop(path.name, None)
        with contextlib.suppress(OSError):
            path.unlink()

    def _make_room(self, nbytes: int) -> None:
        """Remove the least recently used states of all models until ``nbytes`` more fit."""
        files = []
        for folder in self._root.iterdir():
            for path in _files(folder):
                with contextlib.suppress(OSError):  # another process removed it
                    status = path.stat()
                    files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files, key=lambda file: file[0]):
            if total + nbytes <= self._max_bytes:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size


def _files(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):  # not there yet, or not a folder
        yield from folder.glob(f"*{_SUFFIX}")
