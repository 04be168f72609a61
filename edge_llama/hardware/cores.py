"""How many threads to compute with: one per physical performance core that is ours to use.

A second thread on a core, or one on a slow core, makes every step wait: llama.cpp's threads meet
at a barrier after each operation.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import darwin, windows
from .cgroup import cpu_limit
from .systemfiles import read_text

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Cores with less than this share of the fastest core's speed are left out. Intel's E cores have
#: about 0.75, the middle cluster of a phone 0.85 to 0.95, two P cores of one chip 0.96.
_FAST = 0.8

_CPUS = "sys/devices/system/cpu"


def default_threads(root: Path = Path("/")) -> int:
    """Return the number of physical performance cores this process may use, at least 1."""
    if sys.platform == "linux":
        return performance_cores(_affinity(), root)
    # Each of these is None on the other system.
    cores = darwin.sysctl("hw.perflevel0.physicalcpu") or darwin.sysctl("hw.physicalcpu")
    return max(1, cores or windows.performance_cores() or os.cpu_count() or 1)


def performance_cores(allowed: Iterable[int], root: Path = Path("/")) -> int:
    """Count them from Linux's /sys, among the CPUs ``allowed``; a container's quota limits."""
    cpus = sorted(allowed)
    cores = {_siblings(root, cpu): cpu for cpu in reversed(cpus)}
    speeds = {core: _speed(root, cpu) for core, cpu in cores.items()}
    fastest = max(speeds.values(), default=0.0)
    count = sum(speed >= _FAST * fastest for speed in speeds.values())
    quota = cpu_limit(root)
    return max(1, count if quota is None else min(count, int(quota)))


def _affinity() -> set[int]:
    affinity = getattr(os, "sched_getaffinity", None)
    return set(affinity(0)) if affinity is not None else set(range(os.cpu_count() or 1))


def _siblings(root: Path, cpu: int) -> str:
    """Name the physical core of a CPU; without information each CPU is one of its own."""
    topology = root / _CPUS / f"cpu{cpu}" / "topology"
    return read_text(topology / "thread_siblings_list") or str(cpu)


def _speed(root: Path, cpu: int) -> float:
    """Return a CPU's speed beside the others': its capacity (ARM), class (Intel) or clock."""
    folder = root / _CPUS / f"cpu{cpu}"
    found = (read_text(folder / name) for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"))
    speed = next((float(text) for text in found if text.isdecimal()), 1.0)
    is_slow = cpu in _numbers(read_text(root / "sys/devices/cpu_atom/cpus"))
    return speed / 2 if is_slow else speed


def _numbers(ranges: str) -> set[int]:
    """Read a list of CPUs as Linux writes it: "0-3,8"."""
    found: set[int] = set()
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            found |= set(range(int(first), int(last or first) + 1))
    return found
