"""What a conversion does to the system's page cache, and how its result reaches the disk."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from edge_llama_convert import convert, plan
from edge_llama_convert.writeback import WriteBack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


def cached_share(path: Path) -> float:
    """How much of the file is in memory, page by page (mincore: asking must not read it)."""
    size = path.stat().st_size
    with opened(path) as fd, mmap.mmap(fd, size) as mapped:
        pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None).mincore(
            ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), pages
        )
        del first  # or the mapping could not be closed
        assert not failed
        return sum(page & 1 for page in pages) / len(pages)


@pytest.fixture
def weights(real_checkpoint: Path) -> Path:
    if sys.platform != "linux":
        pytest.skip("only Linux tells what is in the page cache")
    path = real_checkpoint / "model.safetensors"
    with opened(path) as fd:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    if cached_share(path) > 0.5:
        pytest.skip("this file system keeps its files in memory")
    return path


def test_a_checkpoint_on_disk_does_not_fill_the_page_cache(weights: Path, tmp_path: Path) -> None:
    convert(plan(weights.parent), tmp_path / "out.gguf")
    assert cached_share(weights) < 0.2


def test_a_checkpoint_in_memory_stays_there(weights: Path, tmp_path: Path) -> None:
    weights.read_bytes()
    convert(plan(weights.parent), tmp_path / "out.gguf")
    assert cached_share(weights) > 0.9


class FailingDisk:
    def __init__(self) -> None:
        self.syncs = 0

    def sync(self) -> None:
        self.syncs += 1
        if self.syncs == 1:  # the system reports a failed write once
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_write_that_failed_in_the_background_is_not_forgotten() -> None:
    disk = FailingDisk()
    with pytest.raises(OSError, match="Input/output error"), WriteBack(disk) as write_back:
        write_back.wrote(1 << 30)
