"""The memory of the running process."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path


def peak_memory() -> int | None:
    """Return the largest resident size this process has had, in bytes; None if unknown."""
    try:
        # Not getrusage on Linux: its maximum is inherited from the parent process.
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def release_memory() -> None:
    """Give memory that was freed back to the system, where the C library keeps it (glibc).

    Tokenizers are read as millions of small pieces; once they are freed the heap would stay as
    large, and the next large object come on top.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
