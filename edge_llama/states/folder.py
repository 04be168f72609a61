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
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .statefile import DamagedStateError, StateFile, write_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from .statefile import Tokens

logger = logging.getLogger("edge_llama.states")

_SUFFIX = ".state"


@dataclass(frozen=True)
class Stored:
    """A state that shares its first ``common`` tokens with a prompt."""

    file: StateFile
    common: int


class StateFolder:
    """The states of one fingerprint in ``root/fingerprint``; the bound holds for all of ``root``.

    Safe to use from several threads and processes.
    """

    def __init__(self, root: Path, fingerprint: str, *, max_bytes: int) -> None:
        self._root, self._folder, self._max_bytes = root, root / fingerprint, max_bytes
        self._lock = threading.Lock()
        self._known: dict[str, StateFile] = {}

    def save(self, tokens: Sequence[int], state: bytes | memoryview) -> bool:
        """Keep the state of ``tokens``; False if it was not kept.

        States of a prefix of ``tokens`` go: this one can be cut back to them.
        """
        array = np.asarray(tokens, dtype=np.int32)
        if not len(array) or len(state) > self._max_bytes:
            return False
        name = hashlib.sha256(array.tobytes()).hexdigest()[:32] + _SUFFIX
        with self._lock:
            try:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                for older in self._scan():
                    if _common(older.tokens, array) == len(older.tokens) < len(array):
                        self._forget(older)
                self._make_room(len(state) + array.nbytes)
                write_state(self._folder / name, array, state)
            except OSError as error:
                logger.warning("a state was not saved: %s", error)
                return False
        return True

    def find(self, tokens: Sequence[int]) -> Stored | None:
        """Return the state that shares the longest beginning with ``tokens``, if any does."""
        array = np.asarray(tokens, dtype=np.int32)
        with self._lock:
            found = [Stored(file, _common(file.tokens, array)) for file in self._scan()]
        best = max(found, key=lambda stored: stored.common, default=None)
        return best if best is not None and best.common else None

    def load(self, stored: Stored) -> bytes | None:
        """Return the state's bytes, or None when it is damaged or gone; it counts as used."""
        with self._lock:
            try:
                state = stored.file.load()
                os.utime(stored.file.path)
            except (DamagedStateError, OSError) as error:
                logger.warning("a state is not used: %s", error)
                self._forget(stored.file)
                return None
        return state

    def _scan(self) -> list[StateFile]:
        """Return the readable states; heads are read once."""
        names = {path.name: path for path in _files(self._folder)}
        for name in self._known.keys() - names.keys():
            del self._known[name]
        for name, path in names.items():
            if name not in self._known:
                try:
                    self._known[name] = StateFile.open(path)
                except (DamagedStateError, OSError) as error:
                    logger.warning("a state is removed: %s", error)
                    with contextlib.suppress(OSError):
                        path.unlink()
        return list(self._known.values())

    def _forget(self, file: StateFile) -> None:
        self._known.pop(file.path.name, None)
        with contextlib.suppress(OSError):
            file.path.unlink()

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


def _common(first: Tokens, second: Tokens) -> int:
    """Return the length of the longest common prefix."""
    n = min(len(first), len(second))
    different = np.flatnonzero(first[:n] != second[:n])
    return int(different[0]) if len(different) else n
