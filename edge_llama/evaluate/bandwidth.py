"""How fast this machine reads memory: what a decode can at most reach."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..hardware import memory_now
from ..hardware.systemfiles import read_text

if TYPE_CHECKING:
    import numpy.typing as npt

#: The array is twice the last cache, within these bounds (bytes), and a quarter of free memory.
_LEAST, _MOST = 256 * 2**20, 2**30
_PASSES = 3

_CACHES = "sys/devices/system/cpu/cpu0/cache"
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def largest_cache(root: Path = Path("/")) -> int | None:
    """Return the size of the processor's last cache in bytes; None where Linux does not say."""
    sizes = []
    for file in (root / _CACHES).glob("index*/size"):
        text = read_text(file)
        with contextlib.suppress(ValueError):
            sizes.append(int(text[:-1]) * _UNITS[text[-1]] if text[-1:] in _UNITS else int(text))
    return max(sizes, default=None)


def array_bytes(cache: int | None, available: int | None) -> int:
    """Return how large an array to read, in bytes; a pure function of what the machine has."""
    wanted = min(max(2 * (cache or 0), _LEAST), _MOST)
    return wanted if available is None else max(min(wanted, available // 4), 2**20)


class Reader:
    """An array that is larger than the caches, where memory allows, read by several threads."""

    def __init__(self, threads: int) -> None:
        self.nbytes = array_bytes(largest_cache(), memory_now()[1])
        array = np.ones(self.nbytes // 8, dtype=np.uint64)  # written, or its pages were all one
        self._parts = np.array_split(array, threads)

    def measure(self) -> float:
        """Return bytes per second: the median of some passes over the whole array."""
        return statistics.median(self.nbytes / self._read() for _ in range(_PASSES))

    def _read(self) -> float:
        """Read it all once; seconds from when all threads are ready to when all are done."""
        gate = threading.Barrier(len(self._parts) + 1)
        threads = [
            threading.Thread(target=_read_part, args=(part, gate), daemon=True)
            for part in self._parts
        ]
        for thread in threads:
            thread.start()
        gate.wait()
        started = time.perf_counter()
        gate.wait()
        seconds = time.perf_counter() - started
        for thread in threads:
            thread.join()
        return seconds


def _read_part(part: npt.NDArray[np.uint64], gate: threading.Barrier) -> None:
    gate.wait()
    np.bitwise_xor.reduce(part)  # the cheapest arithmetic on what is read; it drops the GIL
    gate.wait()
