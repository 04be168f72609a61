"""Takes out of the nodes what no finite value fits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .model import Arrays, Objects, Union

if TYPE_CHECKING:
    from .model import Key, Node
    from .reader import Reader


def prune(reader: Reader) -> None:
    """Set nodes to None that need themselves, or need what nothing fits, without end."""
    users: dict[Key, set[Key]] = {}
    for key, node in reader.nodes.items():
        for below in _below(node):
            users.setdefault(below, set()).add(key)
    known: set[Key] = set()
    todo = list(reader.nodes)
    while todo:
        key = todo.pop()
        if key not in known and _ends(reader.nodes[key], known):
            known.add(key)
            todo += users.get(key, ())
    for key in reader.nodes.keys() - known:
        node = reader.nodes[key]
        if node is not None:
            reader.reasons.setdefault(key, _reason(reader, node, known))
        reader.nodes[key] = None


def _reason(reader: Reader, node: Node, known: set[Key]) -> str:
    if isinstance(node, Objects):
        for one in node.named:
            if one.required and one.value not in known:
                why = reader.reasons.get(one.value, "it never comes to an end")
                return f"{node.path}: the required key {one.name!r} cannot be had: {why}"
    if isinstance(node, Arrays):
        return f"{node.path}: the items it needs cannot be had"
    reasons = [reader.reasons[key] for key in _below(node) if key in reader.reasons]
    return reasons[0] if reasons else "$: it never comes to an end"


def _below(node: Node | None) -> list[Key]:
    if isinstance(node, Union):
        keys = [option for option in node.options if isinstance(option, tuple)]
        nested = [key for one in node.options if not isinstance(one, tuple) for key in _below(one)]
        return keys + nested
    if isinstance(node, Objects):
        return [one.value for one in node.named] + [one.value for one in node.free]
    if isinstance(node, Arrays):
        rest = [] if node.rest is None else [node.rest]
        some = [] if node.contains is None else [node.contains[0], node.contains[3]]
        return [*node.first, *rest, *some]
    return []


def _containing(node: Arrays, known: set[Key]) -> bool:
    """Tell whether any counts of wanted and plain items are within all bounds."""
    assert node.contains is not None  # noqa: S101 - the caller has asked
    wanted, least, most, plain = node.contains
    high = math.inf if node.high is None else node.high
    most_wanted = (math.inf if most is None else most) if wanted in known else 0
    if plain in known:
        return least <= min(most_wanted, high) and node.low <= high
    return max(least, node.low) <= min(most_wanted, high)


def _ends(node: Node | None, known: set[Key]) -> bool:
    if node is None:
        return False
    if isinstance(node, Union):
        return any(
            option in known if isinstance(option, tuple) else _ends(option, known)
            for option in node.options
        )
    if isinstance(node, Objects):
        named = [one for one in node.named if one.value in known]
        free = any(one.value in known for one in node.free)
        needed = all(one.value in known for one in node.named if one.required)
        return needed and (free or len(named) >= node.low)
    if isinstance(node, Arrays):
        if node.contains is not None:
            return _containing(node, known)
        places = all(key in known for key in node.first[: node.low])
        return places and (node.low <= len(node.first) or node.rest in known)
    return True
