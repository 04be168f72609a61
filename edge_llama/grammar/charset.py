"""Sets of characters as ranges of code points, and how a regular expression writes them."""

from __future__ import annotations

import functools
import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_LAST = 0x10FFFF
#: No text holds these: UTF-8 cannot say them.
_SURROGATES = (0xD800, 0xDFFF)


def _normalise(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return tuple(found)


@dataclass(frozen=True)
class CharSet:
    """A set of characters; ``ranges`` are sorted, inclusive, apart from each other."""

    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, *ranges: tuple[int, int]) -> CharSet:
        """Return the set of all characters in ``ranges``; surrogates are none."""
        low, high = _SURROGATES
        pieces = []
        for first, last in ranges:
            if first <= min(last, low - 1):
                pieces.append((first, min(last, low - 1)))
            if max(first, high + 1) <= last:
                pieces.append((max(first, high + 1), last))
        return cls(_normalise(pieces))

    @classmethod
    def chars(cls, text: str) -> CharSet:
        """Return the set of the characters in ``text``."""
        return cls.of(*((ord(char), ord(char)) for char in text))

    def __or__(self, other: CharSet) -> CharSet:
        return CharSet(_normalise((*self.ranges, *other.ranges)))

    def __invert__(self) -> CharSet:
        start, gaps = 0, []
        for low, high in self.ranges:
            gaps.append((start, low - 1))
            start = high + 1
        return CharSet.of(*gaps, (start, _LAST))

    def meets(self, other: CharSet) -> bool:
        """Tell whether the sets have a character in common."""
        mine, its = iter(self.ranges), iter(other.ranges)
        a, b = next(mine, None), next(its, None)
        while a is not None and b is not None:
            if a[1] < b[0]:
                a = next(mine, None)
            elif b[1] < a[0]:
                b = next(its, None)
            else:
                return True
        return False

    def __contains__(self, code: int) -> bool:
        place = bisect_right(self.ranges, (code, _LAST))
        return place > 0 and code <= self.ranges[place - 1][1]

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def single(self) -> str | None:
        """Return the only character of the set, if it is one."""
        if len(self.ranges) == 1 and self.ranges[0][0] == self.ranges[0][1]:
            return chr(self.ranges[0][0])
        return None

    def pattern(self) -> str:
        """Return the set in the syntax of Rust's regex crate, safe between Lark's slashes."""
        if self == ANY:
            return "(?s:.)"
        single = self.single()
        if single is not None and single.isalnum() and single.isascii():
            return single
        return "[" + "".join(_range(low, high) for low, high in self.ranges) + "]"


def _range(low: int, high: int) -> str:
    return _char(low) if low == high else f"{_char(low)}-{_char(high)}"


@functools.lru_cache(maxsize=4096)
def _char(code: int) -> str:
    char = chr(code)
    return char if char.isascii() and char.isalnum() else f"\\u{{{code:x}}}"


def escaped(text: str) -> str:
    """Return a text in the syntax of Rust's regex crate, safe between Lark's slashes."""
    return "".join([_char(ord(char)) for char in text])


NONE = CharSet(())
ANY = ~NONE
DIGITS = CharSet.of((0x30, 0x39))
WORD = CharSet.of((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A), (0x5F, 0x5F))
SPACE = CharSet.of((0x09, 0x0D), (0x20, 0x20))


@functools.lru_cache(maxsize=8)
def python_class(letter: str) -> CharSet:
    r"""Return the characters that Python's ``re`` takes for ``\d``, ``\w`` or ``\s``."""
    runs = re.finditer(f"\\{letter}+", "".join(map(chr, range(_LAST + 1))))
    return CharSet.of(*((run.start(), run.end() - 1) for run in runs))


@functools.lru_cache(maxsize=1)
def _cased() -> tuple[tuple[int, int], ...]:
    """Return pairs of a character and another case of it, where that is one character."""
    pairs = []
    for code in range(_LAST + 1):
        char = chr(code)
        for other in {char.lower(), char.upper()}:
            if other != char and len(other) == 1:
                pairs += [(code, ord(other)), (ord(other), code)]
    return tuple(pairs)


def any_case(chars: CharSet) -> CharSet:
    """Return ``chars`` and their other cases."""
    return chars | CharSet.of(*((other, other) for code, other in _cased() if code in chars))
