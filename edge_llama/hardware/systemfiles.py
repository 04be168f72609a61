"""What Linux says in the text files of /proc and /sys; nothing where there is no such file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def read_text(path: Path) -> str:
    """Return a file's text without white space around it; empty if it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def read_sizes(path: Path) -> dict[str, int]:
    """Return the sizes in a file's lines of "Name:   12 kB", in bytes."""
    return {
        name: int(size) * 1024
        for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", read_text(path), re.MULTILINE)
    }
