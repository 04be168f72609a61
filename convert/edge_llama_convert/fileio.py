"""Positioned file access that several threads may share, on every platform.

``preadv``/``pwrite`` where the system has them. A short read is an exception here, where a
mapping of a file that shrinks would be a SIGBUS that ends the process.
"""

from __future__ import annotations

import codecs
import errno
import os
import stat
import threading
from typing import TYPE_CHECKING

from . import pagecache
from .errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

#: Error numbers of a full disk, a quota and a limit of file sizes.
FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}

#: Bound for the JSON files beside the weights; the largest real tokenizer.json has about 35 MB.
MAX_JSON_BYTES = 256 * 1024 * 1024

#: How the text begins that stands for a file in a clone without Git LFS.
_GIT_LFS = b"version https://git-lfs.github.com/"

_POSITIONED = hasattr(os, "preadv") and hasattr(os, "pwrite")


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError(
        f"{path}: {error.strerror or error}", hint="Check the file, its permissions and the disk."
    )


def check_regular(path: Path) -> None:
    """Raise SourceError unless ``path`` is the file itself.

    Opening a pipe would wait for ever; what Git leaves of a large file is a few lines of text.
    """
    try:
        status = path.stat()
        regular = stat.S_ISREG(status.st_mode)
        pointer = regular and status.st_size < 1024 and path.read_bytes().startswith(_GIT_LFS)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not regular:
        raise SourceError(f"{path}: not a regular file", hint="Put the file itself in its place.")
    if pointer:
        raise SourceError(
            f"{path}: a Git LFS pointer, not the file itself",
            hint="Run `git lfs pull` in the folder, or download the file.",
        )


def check_text(path: Path) -> None:
    """Raise SourceError for a JSON file that is too large, or begins with a byte order mark."""
    if path.stat().st_size > MAX_JSON_BYTES:
        raise SourceError(
            f"{path}: larger than {MAX_JSON_BYTES >> 20} MiB, not plausible for this file",
            hint="Fetch the file again.",
        )
    with path.open("rb") as file:
        if file.read(3) == codecs.BOM_UTF8:
            raise SourceError(
                f"{path}: begins with a byte order mark (BOM)",
                hint="An editor added it: save the file as UTF-8 without BOM, or fetch it again.",
            )


class SharedFile:
    """A file that threads read or write at explicit offsets; use as a context manager.

    What is read of a file that was not in the page cache does not stay there.
    """

    def __init__(self, path: Path, *, write: bool = False) -> None:
        binary = getattr(os, "O_BINARY", 0)
        self.path = path
        try:
            self._fd = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | binary)
        except OSError as error:
            if write:
                raise
            raise _unreadable(path, error) from error
        self._lock = threading.Lock()
        self._cached = write or pagecache.is_cached(self._fd)

    def __enter__(self) -> SharedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; calling it again does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` (bytes) from ``offset``.

        Raises:
            SourceError: the file ends first, i.e. it was truncated after it was opened; or the
                disk fails.
        """
        done = 0
        while done < len(buffer):
            try:
                count = self._read_some(buffer[done:], offset + done)
            except OSError as error:
                raise _unreadable(self.path, error) from error
            if count == 0:
                raise SourceError(
                    f"{self.path}: the file ended at byte {offset + done:,} while being read",
                    hint="Something changed it during the conversion; download it again and retry.",
                )
            done += count
        if not self._cached:
            pagecache.drop(self._fd, offset, done)

    def prefetch(self, offset: int, nbytes: int) -> None:
        """Begin to read a part, without waiting; nothing to do where the file is in memory."""
        if not self._cached:
            pagecache.prefetch(self._fd, offset, nbytes)

    def write_at(self, data: memoryview, offset: int) -> None:
        """Write all of ``data`` (bytes) at ``offset``; OSError as the system reports it."""
        done = 0
        while done < len(data):
            done += self._write_some(data[done:], offset + done)

    def sync(self) -> None:
        """Flush the file's content to the disk."""
        os.fsync(self._fd)

    def reserve(self, size: int) -> None:
        """Make the file ``size`` bytes long and, where possible, claim the disk space now."""
        allocate = getattr(os, "posix_fallocate", None)
        if allocate is not None:
            allocate(self._fd, 0, size)
        else:
            os.ftruncate(self._fd, size)

    def _read_some(self, buffer: memoryview, offset: int) -> int:
        if _POSITIONED:
            return os.preadv(self._fd, [buffer], offset)
        with self._lock:
            os.lseek(self._fd, offset, os.SEEK_SET)
            data = os.read(self._fd, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _write_some(self, data: memoryview, offset: int) -> int:
        if _POSITIONED:
            return os.pwrite(self._fd, data, offset)
        with self._lock:
            os.lseek(self._fd, offset, os.SEEK_SET)
            return os.write(self._fd, data)
