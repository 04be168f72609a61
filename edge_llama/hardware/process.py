"""What this process has in memory."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from . import darwin, windows
from .systemfiles import read_sizes


@dataclass(frozen=True, kw_only=True)
class ProcessMemory:
    """Memory of a process in bytes; None where the system does not say.

    Attributes:
        resident: pages in memory, those shared with other processes included (RSS).
        proportional: the same, but a page that n processes share counts 1/n (PSS).
        private: pages of this process alone (USS).
        peak: the most that was ever resident.
    """

    resident: int
    proportional: int | None
    private: int | None
    peak: int | None


def read_process_memory(root: Path = Path("/")) -> ProcessMemory:
    """Return what this process has in memory now."""
    if sys.platform == "darwin":
        return ProcessMemory(
            resident=darwin.resident_memory() or 0, proportional=None, private=None, peak=None
        )
    if sys.platform == "win32":
        resident, peak = windows.process_memory()
        return ProcessMemory(resident=resident or 0, proportional=None, private=None, peak=peak)
    pages = read_sizes(root / "proc/self/smaps_rollup")
    status = read_sizes(root / "proc/self/status")
    private = [pages[key] for key in ("Private_Clean", "Private_Dirty") if key in pages]
    return ProcessMemory(
        resident=pages.get("Rss") or status.get("VmRSS", 0),
        proportional=pages.get("Pss"),
        private=sum(private) if private else None,
        peak=status.get("VmHWM"),
    )


def resident_memory() -> int:
    """Return the resident bytes of this process, 0 where the system does not say."""
    if sys.platform == "linux":  # the other file is dear: the kernel walks all pages
        return read_sizes(Path("/proc/self/status")).get("VmRSS", 0)
    return read_process_memory().resident
