"""Sizes in bytes as people write them."""

from __future__ import annotations

import re

_FACTORS = {
    "": 1,
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", 1)},
    **{f"{prefix}IB": 1024**power for power, prefix in enumerate("KMGT", 1)},
    **{prefix: 1024**power for power, prefix in enumerate("KMGT", 1)},
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_bytes(size: str | int) -> int:
    """Read "1.5GiB", "800 MB" or "2G" (binary, as in Docker and Java); plain numbers are bytes.

    Raises:
        ValueError: it is no size.
    """
    if isinstance(size, int):
        return size
    match = _SIZE.fullmatch(size)
    factor = _FACTORS.get(match[2].upper()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{size!r} is no size like 1.5GiB")
    return int(float(match[1]) * factor)


def format_bytes(count: int) -> str:
    """Write a size with three digits that count: "17.5 MiB", "1.53 GiB"."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while abs(value) >= 1000 and len(units) > 1:
        value /= 1024
        del units[0]
    unit = units[0]
    digits = 0 if unit == "B" or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f} {unit}"
