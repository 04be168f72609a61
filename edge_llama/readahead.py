"""Bring a model file into the page cache, with progress, before it is mapped.

On Linux llama.cpp maps with ``MAP_POPULATE``: one system call that reads the whole file, during
which nothing can be shown and nothing cancelled. What is cached already is only probed, which
takes about a millisecond per gigabyte.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from .hardware import physical_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_BLOCK = 4 * 2**20
_PROBES = 4


def read_ahead(paths: Sequence[Path], tell: Callable[[float], object]) -> None:
    """Read what is not cached; ``tell`` gets the fraction done and may raise to end it.

    What is cached already is not told of, as it takes no time.

    Does nothing where the system cannot say what is cached (all but Linux), or where the files
    exceed the memory, so that reading one end would evict the other.

    Raises:
        OSError: a file cannot be read.
    """
    total = sum(path.stat().st_size for path in paths)
    memory = physical_memory()
    if not hasattr(os, "RWF_NOWAIT") or memory is None or total > memory:
        return
    done, buffer, cold = 0, bytearray(_BLOCK), False
    for path in paths:
        with path.open("rb", buffering=0) as file:
            for offset in range(0, path.stat().st_size, _BLOCK):
                if not _is_cached(file.fileno(), offset):
                    os.preadv(file.fileno(), [buffer], offset)
                    cold = True
                if cold:
                    tell(min((done + offset + _BLOCK) / total, 1.0))
        done += path.stat().st_size


def _is_cached(file: int, offset: int) -> bool:
    """Whether a block is in the page cache, judged by some of its pages."""
    probe = bytearray(1)
    try:
        for place in range(offset, offset + _BLOCK, _BLOCK // _PROBES):
            os.preadv(file, [probe], place, os.RWF_NOWAIT)
    except OSError as error:
        # A file system that does not know the question is not asked again for nothing.
        return error.errno != errno.EAGAIN
    return True
