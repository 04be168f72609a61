"""The first bytes of a GGUF, read only as far as they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import numpy as np

from .fault import FETCH, damaged

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    import numpy.typing as npt

#: The largest header that is read, in bytes; Gemma 4's, with 776k strings, has half of it.
MAX_HEADER = 32 * 2**20

_READ_AHEAD = 2**20

#: Bytes after the end that may be looked at (not believed) when eight are read at once.
SLACK = 8


class HeaderBuffer:
    """Reads a header into one array; nothing is mapped, so a file that shrinks is no SIGBUS."""

    def __init__(self, file: FileIO, path: Path) -> None:
        self.path = path
        self.file_size = file.seek(0, 2)
        self._file = file
        file.seek(0)
        # Only the pages that are read into cost memory.
        self._limit = min(self.file_size, MAX_HEADER)
        self.array: npt.NDArray[np.uint8] = np.empty(self._limit + SLACK, np.uint8)
        self.view = self.array.data
        self.filled = 0

    def reach(self, end: int) -> None:
        """Make sure that bytes up to ``end`` are there; ModelFileError if the file is shorter."""
        if end <= self.filled:
            return
        if end > self._limit:
            if end > self.file_size:
                self.fail(f"truncated at byte {self.file_size:,}, within the header")
            self.fail(f"its header is larger than {MAX_HEADER // 2**20} MiB")
        self.read_ahead(end)
        if end > self.filled:
            self.fail(f"truncated at byte {self.filled:,}, within the header")

    def read_ahead(self, end: int) -> int:
        """Read up to ``end`` or a little further, as far as there is a header; return how far."""
        goal = min(max(end, self.filled + _READ_AHEAD), self._limit)
        while self.filled < goal:
            count = self._file.readinto(self.view[self.filled : goal])
            if not count:  # the file has shrunk
                break
            self.filled += count
        return self.filled

    def fail(self, problem: str, *, hint: str = FETCH) -> NoReturn:
        """Raise ModelFileError for this file."""
        raise damaged(self.path, problem, hint)
