"""How much memory the machine has, and how much of it can be had now."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from . import darwin, windows
from .cgroup import memory_limit
from .systemfiles import read_sizes


def physical_memory() -> int | None:
    """Return the machine's memory in bytes, or None where it cannot be asked for."""
    if sys.platform == "win32":
        return windows.memory()[0]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def memory_now(root: Path = Path("/")) -> tuple[int | None, int | None]:
    """Return (total, available) in bytes: the machine's, or less where a container limits it.

    Available is what can be used without swapping; cached files count, as the system drops them.
    """
    total, available = physical_memory(), None
    if sys.platform == "win32":
        available = windows.memory()[1]
    elif sys.platform == "darwin":
        available = darwin.available_memory(total)
    else:
        available = meminfo_available(root)
        limit, unused = memory_limit(root)
        total = _least(total, limit)
        available = _least(available, unused)
    return total, available


def meminfo_available(root: Path = Path("/")) -> int | None:
    """Return MemAvailable of Linux's /proc/meminfo in bytes."""
    return read_sizes(root / "proc/meminfo").get("MemAvailable")


def lock_limit() -> int | None:
    """Return how many bytes this process may lock into memory; None for no limit."""
    try:
        import resource
    except ImportError:  # Windows limits the working set, which llama.cpp raises itself
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    # llama.cpp cannot raise the soft limit for us; the kernel lets root ignore it.
    if soft == resource.RLIM_INFINITY or _is_root():
        return None
    return min(soft, hard) if hard != resource.RLIM_INFINITY else soft


def numa_nodes(root: Path = Path("/")) -> int:
    """Return the number of memory nodes, 1 where the system does not say."""
    return len(list(root.glob("sys/devices/system/node/node[0-9]*"))) or 1


def _is_root() -> bool:
    return getattr(os, "geteuid", lambda: 1)() == 0


def _least(first: int | None, second: int | None) -> int | None:
    return min((value for value in (first, second) if value is not None), default=None)
