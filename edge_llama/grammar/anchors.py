"""Anchors of a regular expression, which are no language of their own, resolved into one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .charset import ANY, NONE
from .regular import EMPTY, Alt, Chars, Regular, Repeat, Seq

if TYPE_CHECKING:
    from collections.abc import Callable

_ANYTHING = Repeat(Chars(ANY), 0, None)


@dataclass(frozen=True)
class Edge(Regular):
    """``^`` or ``$``; gone after :func:`whole` or :func:`within`."""

    start: bool
    nullable = True
    first = prolonging = NONE
    deterministic = True
    size = 1


class StrayAnchorError(ValueError):
    """An anchor stands where text comes before or after it."""


def whole(tree: Regular) -> Regular:
    """Return the language of texts that ``tree`` matches from end to end.

    Raises:
        StrayAnchorError: an anchor is not at the beginning or the end.
    """
    return _resolve(tree, lambda body, _start, _end: body)


def within(tree: Regular) -> Regular:
    """Return the language of texts that ``tree`` matches somewhere inside.

    Raises:
        StrayAnchorError: an anchor is not at the beginning or the end.
    """

    def around(body: Regular, start: bool, end: bool) -> Regular:  # noqa: FBT001 - two answers
        return Seq(
            (*([] if start else [_ANYTHING]), body, *([] if end else [_ANYTHING])),
        )

    return _resolve(tree, around)


def _resolve(tree: Regular, around: Callable[[Regular, bool, bool], Regular]) -> Regular:
    found = []
    for start, rest in _strip(tree, start=True):
        for end, body in _strip(rest, start=False):
            if _has_edge(body):
                raise StrayAnchorError
            found.append(around(body, start, end))
    return found[0] if len(found) == 1 else Alt(tuple(found))


def _strip(tree: Regular, *, start: bool) -> list[tuple[bool, Regular]]:
    """Return pairs (anchored at that end, what is left), which together are ``tree``."""
    if not _has_edge(tree):
        return [(False, tree)]
    if isinstance(tree, Edge):
        return [(True, EMPTY)] if tree.start == start else [(False, tree)]
    if isinstance(tree, Alt):
        return [pair for item in tree.items for pair in _strip(item, start=start)]
    if isinstance(tree, Seq) and tree.items:
        if start:
            head, rest = tree.items[0], tree.items[1:]
            return [(is_at, _join(body, *rest)) for is_at, body in _strip(head, start=True)]
        head, rest = tree.items[-1], tree.items[:-1]
        return [(is_at, _join(*rest, body)) for is_at, body in _strip(head, start=False)]
    return [(False, tree)]


def _join(*items: Regular) -> Regular:
    left = tuple(item for item in items if item != EMPTY)
    return left[0] if len(left) == 1 else Seq(left)


def _has_edge(tree: Regular) -> bool:
    if isinstance(tree, Seq | Alt):
        return any(_has_edge(item) for item in tree.items)
    return isinstance(tree, Edge) or (isinstance(tree, Repeat) and _has_edge(tree.item))
