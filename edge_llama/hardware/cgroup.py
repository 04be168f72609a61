"""Limits that a container or a service manager puts on this process (Linux control groups).

https://docs.kernel.org/admin-guide/cgroup-v2.html; version 1 under its usual mount points. Every
level between the process's group and the root can limit, so all are asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .systemfiles import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Version 1 writes "no limit" as the largest multiple of a page.
_NO_LIMIT = 2**60


def memory_limit(root: Path = Path("/")) -> tuple[int | None, int | None]:
    """Return (limit, still unused) of the tightest group in bytes; None without a limit.

    Files that are cached for the group count against its limit, but the kernel drops them first.
    """
    limit: int | None = None
    unused: int | None = None
    for folder, names in _groups(root, "memory"):
        maximum = _number(folder / names[0])
        if maximum is None or maximum >= _NO_LIMIT:
            continue
        limit = maximum if limit is None else min(limit, maximum)
        used = _number(folder / names[1])
        if used is not None:
            left = max(0, maximum - used + _cached(folder))
            unused = left if unused is None else min(unused, left)
    return limit, unused


def cpu_limit(root: Path = Path("/")) -> float | None:
    """Return how many CPUs' time the tightest group grants; None without a limit."""
    found: list[float] = []
    for folder, names in _groups(root, "cpu"):
        words = " ".join(read_text(folder / name) for name in names).split()
        if len(words) >= 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
            found.append(int(words[0]) / int(words[1]))  # "max" and -1 are no limit
    return min(found, default=None)


_FILES = {
    "memory": (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ),
    "cpu": (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")),
}


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield this process's group and those above it, with the names of the files in them."""
    unified, legacy = _FILES[controller]
    mount = root / "sys/fs/cgroup"
    for line in read_text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            base, names = mount, unified
        elif controller in controllers.split(","):
            base, names = mount / controller, legacy
        else:
            continue
        # A container sees its own group at the mount itself, under whatever path the host has.
        folder = base / path.lstrip("/")
        yield from ((level, names) for level in (folder, *folder.parents) if base in level.parents)
        yield base, names


def _cached(folder: Path) -> int:
    for line in read_text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in {"inactive_file", "total_inactive_file"} and value.isdecimal():
            return int(value)
    return 0


def _number(path: Path) -> int | None:
    text = read_text(path)
    return int(text) if text.isdecimal() else None
