"""The threads that llama.cpp computes with, where they are OpenMP's."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .library import llama

if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE_SOFT = 1  # omp_pause_resource_t


def release_threads() -> None:
    """End the threads that have helped this one to compute; the next time there are new ones.

    GCC's OpenMP gives every thread that computes a team of its own, and keeps it. With more threads
    than cores in all teams together, also idle ones, it lets none wait actively any more: a second
    open model makes both compute at a third of their speed. Takes some 0.1 ms.
    """
    pause = _pause()
    if pause is not None:
        pause(_PAUSE_SOFT)


@functools.cache
def _pause() -> Callable[[int], int] | None:
    """Return GCC's ``omp_pause_resource_all``, which ends the caller's own team only."""
    if sys.platform != "linux":
        return None
    try:
        pause = llama()._lib.omp_pause_resource_all  # noqa: SLF001 - of a library it needs
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except (OSError, AttributeError):
        return None
    names = {line.rpartition("/")[2] for line in maps.splitlines()}
    if any(name.startswith(("libomp", "libiomp")) for name in names):  # they pause everyone
        return None
    if not any(name.startswith("libgomp") for name in names):
        return None
    pause.argtypes, pause.restype = [ctypes.c_int], ctypes.c_int
    return pause  # type: ignore[no-any-return]
