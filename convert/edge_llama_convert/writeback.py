"""Get a file onto the disk while it is still being written."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Protocol

from .threads import start

if TYPE_CHECKING:
    from types import TracebackType


#: Bytes after which the disk is given something to do.
_STEP = 64 << 20

_FLUSH, _END = "flush", "end"


class Syncable(Protocol):
    """A file that can be flushed."""

    def sync(self) -> None:
        """Return once everything is on the disk; OSError as the system reports it."""
        ...


class WriteBack:
    """Flushes a file every few megabytes, in a thread of its own; use as a context manager.

    Left alone, the system gathers gigabytes before it begins to write, and the fsync at the end
    waits for all of them. Leaving the context waits until everything is on the disk.
    """

    def __init__(self, file: Syncable) -> None:
        self._file = file
        self._pending = 0
        self._requests: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> WriteBack:
        start(self._thread)
        return self

    def wrote(self, nbytes: int) -> None:
        """Count ``nbytes`` more that were written; call from one thread."""
        self._pending += nbytes
        if self._pending >= _STEP:
            self.flush()

    def flush(self) -> None:
        """Begin to flush what was written so far, without waiting for it."""
        self._pending = 0
        self._requests.put(_FLUSH)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._requests.put(_END)
        self._thread.join()
        if error is None:
            if self._error is not None:
                raise self._error
            self._file.sync()

    def _run(self) -> None:
        try:
            while self._next() is not _END:
                self._file.sync()
        except OSError as error:  # the system reports a failed write once: keep it
            self._error = error

    def _next(self) -> str:
        """Wait for a request; several at once are one, and the end overrules all."""
        wanted = self._requests.get()
        while wanted is not _END and not self._requests.empty():
            wanted = self._requests.get()
        return wanted
