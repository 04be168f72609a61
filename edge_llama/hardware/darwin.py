"""What macOS says about memory and cores (``man 3 sysctl``, ``man 3 proc_pid_rusage``)."""

from __future__ import annotations

import ctypes
import os
import sys


def sysctl(name: str) -> int | None:
    """Return a numeric system value, e.g. "hw.perflevel0.physicalcpu"; None if there is none."""
    if sys.platform != "darwin":
        return None
    value, size = ctypes.c_uint64(0), ctypes.c_size_t(8)
    function = ctypes.CDLL(None).sysctlbyname
    failed = function(name.encode(), ctypes.byref(value), ctypes.byref(size), None, 0)
    return None if failed else value.value


def available_memory(total: int | None) -> int | None:
    """Return what is available: the kernel's own percentage, which ``memory_pressure`` shows."""
    level = sysctl("kern.memorystatus_level")
    return None if level is None or total is None else total * min(level, 100) // 100


def resident_memory() -> int | None:
    """Return what this process has in memory, in bytes."""
    if sys.platform != "darwin":
        return None
    # struct rusage_info_v0: a 16-byte uuid, then 64-bit numbers: user and system time, two
    # kinds of wake-ups, page-ins, wired size, resident size.
    usage = (ctypes.c_uint64 * 64)()
    failed = ctypes.CDLL(None).proc_pid_rusage(os.getpid(), 0, ctypes.byref(usage))
    return None if failed else int(usage[2 + 6])
