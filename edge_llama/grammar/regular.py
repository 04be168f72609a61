"""Regular languages as a small tree: what regexes, choices and much of GBNF come down to.

A tree is written as one lexeme of llguidance. Its lexer takes the longest lexeme and never looks
back, so a lexeme may only be followed by what cannot prolong it. ``first`` and ``prolonging`` are
the characters to compare; the latter comes from Glushkov's automaton where that is deterministic,
and else from :func:`later`, which is larger.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from .charset import NONE, CharSet, escaped

if TYPE_CHECKING:
    from collections.abc import Iterable


class Regular:
    """A regular language; immutable. That trees are not too deep is the parsers' task.

    ``nullable``: the empty text belongs to it. ``first``: characters its texts may begin with.
    ``deterministic``: reading a text, each character has one place in the tree. ``prolonging``:
    characters that may come after a whole text of it and lead to a longer one. ``size``: places
    in the tree, the least repeats unrolled.
    """

    @property
    def nullable(self) -> bool:
        """Whether the empty text belongs to it."""
        raise NotImplementedError

    @property
    def first(self) -> CharSet:
        """Characters its texts may begin with."""
        raise NotImplementedError

    @property
    def deterministic(self) -> bool:
        """Whether each character has one place."""
        raise NotImplementedError

    @property
    def prolonging(self) -> CharSet:
        """Characters that may lead on from a whole text."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """How many places there are."""
        raise NotImplementedError

    def pattern(self) -> str:
        """Return it in the syntax of Rust's regex crate, safe between Lark's slashes."""
        raise NotImplementedError

    def grouped(self) -> str:
        """Return :meth:`pattern`, to be repeated or put into a sequence."""
        return f"(?:{self.pattern()})"


@dataclass(frozen=True)
class Chars(Regular):
    """One character of a set."""

    chars: CharSet
    nullable = False
    deterministic = True
    prolonging = NONE
    size = 1

    @property
    def first(self) -> CharSet:
        """Characters its texts may begin with."""
        return self.chars

    def pattern(self) -> str:
        """Return it in the syntax of Rust's regex crate, safe between Lark's slashes."""
        return self.chars.pattern()

    grouped = pattern


@dataclass(frozen=True)
class Text(Regular):
    """One text, character by character."""

    value: str
    deterministic = True

    @property
    def nullable(self) -> bool:
        """Whether the empty text belongs to it."""
        return not self.value

    @property
    def size(self) -> int:
        """How many places there are."""
        return len(self.value)

    @property
    def first(self) -> CharSet:
        """Characters its texts may begin with."""
        return CharSet.chars(self.value[:1])

    prolonging = NONE

    def pattern(self) -> str:
        """Return it in the syntax of Rust's regex crate, safe between Lark's slashes."""
        return escaped(self.value)


@dataclass(frozen=True)
class Seq(Regular):
    """One after the other; no items are the empty text."""

    items: tuple[Regular, ...]

    @cached_property
    def nullable(self) -> bool:
        """Whether the empty text belongs to it."""
        return all(item.nullable for item in self.items)

    @cached_property
    def size(self) -> int:
        """How many places there are."""
        return 1 + sum(item.size for item in self.items)

    @cached_property
    def first(self) -> CharSet:
        """Characters its texts may begin with."""
        leading = []
        for item in self.items:
            leading.append(item.first)
            if not item.nullable:
                break
        return _union(leading)

    @cached_property
    def _read(self) -> tuple[bool, CharSet]:
        certain, prolonging = True, NONE
        for item in self.items:
            certain &= item.deterministic and not prolonging.meets(item.first)
            kept = prolonging if item.nullable else NONE
            prolonging = kept | item.prolonging
        return certain, prolonging

    @property
    def deterministic(self) -> bool:
        """Whether each character has one place."""
        return self._read[0]

    @cached_property
    def prolonging(self) -> CharSet:
        """Characters that may lead on from a whole text."""
        return self._read[1] if self.deterministic else _anywhere(self)

    def pattern(self) -> str:
        """Return it in the syntax of Rust's regex crate, safe between Lark's slashes."""
        return "".join(
            item.grouped() if isinstance(item, Alt) else item.pattern() for item in self.items
        )


@dataclass(frozen=True)
class Alt(Regular):
    """Any one of several; no items are no text at all."""

    items: tuple[Regular, ...]

    @cached_property
    def nullable(self) -> bool:
        """Whether the empty text belongs to it."""
        return any(item.nullable for item in self.items)

    @cached_property
    def size(self) -> int:
        """How many places there are."""
        return 1 + sum(item.size for item in self.items)

    @cached_property
    def first(self) -> CharSet:
        """Characters its texts may begin with."""
        return _union(item.first for item in self.items)

    @cached_property
    def deterministic(self) -> bool:
        """Whether each character has one place."""
        ranges = sorted(pair for item in self.items for pair in item.first.ranges)
        apart = all(one[1] < two[0] for one, two in pairwise(ranges))
        return apart and all(item.deterministic for item in self.items)

    @cached_property
    def prolonging(self) -> CharSet:
        """Characters that may lead on from a whole text."""
        if not self.deterministic:
            return _anywhere(self)
        found = _union(item.prolonging for item in self.items)
        return found | self.first if self.nullable else found

    def pattern(self) -> str:
        """Return it in the syntax of Rust's regex crate, safe between Lark's slashes."""
        return "|".join(item.pattern() for item in self.items)


@dataclass(frozen=True)
class Repeat(Regular):
    """``low`` to ``high`` times; without end if ``high`` is None."""

    item: Regular
    low: int
    high: int | None

    @cached_property
    def nullable(self) -> bool:
        """Whether the empty text belongs to it."""
        return self.low == 0 or self.item.nullable

    @cached_property
    def size(self) -> int:
        """How many places there are."""
        return 1 + self.item.size * max(1, self.low)

    @property
    def first(self) -> CharSet:
        """Characters its texts may begin with."""
        return NONE if self.high == 0 else self.item.first

    @cached_property
    def deterministic(self) -> bool:
        """Whether each character has one place."""
        if self.high is not None and self.high <= 1:
            return self.item.deterministic
        item = self.item
        clear = not item.nullable and not item.prolonging.meets(item.first)
        return clear and item.deterministic

    @cached_property
    def prolonging(self) -> CharSet:
        """Characters that may lead on from a whole text."""
        if not self.deterministic:
            return _anywhere(self)
        if self.high == 0:
            return NONE
        full = self.low == self.high and not self.item.nullable  # nothing begins another
        return self.item.prolonging if full else self.item.prolonging | self.item.first

    def pattern(self) -> str:
        """Return it in the syntax of Rust's regex crate, safe between Lark's slashes."""
        count = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((self.low, self.high))
        if count is None:
            high = "" if self.high is None else self.high
            count = f"{{{self.low}}}" if self.low == self.high else f"{{{self.low},{high}}}"
        return self.item.grouped() + count


EMPTY = Seq(())
NOTHING = Alt(())


def later(tree: Regular) -> CharSet:
    """Return the characters that may stand anywhere but first in a text of ``tree``."""
    if isinstance(tree, Repeat):
        again = tree.high is None or tree.high > 1
        return later(tree.item) | (tree.item.first if again else NONE)
    if isinstance(tree, Seq):
        parts = [later(item) for item in tree.items]
        return _union([*parts, *(item.first for item in tree.items[1:])])
    if isinstance(tree, Text):
        return CharSet.chars(tree.value[1:])
    return _union(later(item) for item in tree.items) if isinstance(tree, Alt) else NONE


def _anywhere(tree: Regular) -> CharSet:
    return later(tree) | tree.first if tree.nullable else later(tree)


def _union(sets: Iterable[CharSet]) -> CharSet:
    return CharSet.of(*(pair for one in sets for pair in one.ranges))
