"""Leave the system's page cache as it was found: a large checkpoint must not empty it.

Only where the system can say what is cached (Linux, ``preadv2``); elsewhere nothing happens.
"""

from __future__ import annotations

import os
import sys

_SAMPLES = 32


def is_cached(fd: int) -> bool:
    """Return whether most of a file is in memory already, from a few places of it.

    True as well where the system does not tell.
    """
    if sys.platform != "linux" or not hasattr(os, "RWF_NOWAIT"):
        return True
    size, found, byte = os.fstat(fd).st_size, 0, bytearray(1)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # or the question would read the file
    for sample in range(_SAMPLES):
        try:
            os.preadv(fd, [byte], size * sample // _SAMPLES, os.RWF_NOWAIT)
        except BlockingIOError:
            continue
        except OSError:  # a file system without it
            return True
        found += 1
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_NORMAL)
    return found > _SAMPLES // 2


def drop(fd: int, offset: int, nbytes: int) -> None:
    """Let go of a part of a file that was read; pages that others use stay."""
    if sys.platform == "linux":
        os.posix_fadvise(fd, offset, nbytes, os.POSIX_FADV_DONTNEED)


def prefetch(fd: int, offset: int, nbytes: int) -> None:
    """Begin to read a part of a file, without waiting for it."""
    if sys.platform == "linux":
        os.posix_fadvise(fd, offset, nbytes, os.POSIX_FADV_WILLNEED)
