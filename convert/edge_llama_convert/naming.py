"""Many tensor names in one line, all of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: More groups than this are counted; a damaged file may hold anything.
_MAX_GROUPS = 24

_NUMBER = re.compile(r"(?<=\.)\d{1,6}(?=\.)")


def listed(names: Iterable[str]) -> str:
    """Return the names in order; those that differ in their first number only become one.

    ``model.layers.0.mlp.up_proj.weight`` to layer 7 give ``model.layers.[0-7].mlp.up_proj.weight``.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for name in sorted(names):
        number = _NUMBER.search(name)
        if number is None:
            groups[name[:200], ""] = []
        else:
            key = name[: number.start()], name[number.end() :][:200]
            groups.setdefault(key, []).append(int(number[0]))
    shown = [
        f"{before}{_ranges(numbers)}{after}"
        for (before, after), numbers in list(groups.items())[:_MAX_GROUPS]
    ]
    rest = sum(max(1, len(numbers)) for numbers in list(groups.values())[_MAX_GROUPS:])
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _ranges(numbers: list[int]) -> str:
    """Return ``3`` for one number, ``[0-2,5]`` for several."""
    if not numbers:
        return ""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    text = ",".join("-".join(map(str, part)) for part in parts)
    return text if len(numbers) == 1 else f"[{text}]"
