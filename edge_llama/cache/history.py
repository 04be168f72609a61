"""What a cache holds, and how much of it stands for what a prompt wants.

When a context overflows, tokens are dropped from its middle. The cache then holds less than the
conversation, and must still be recognised when the whole conversation comes again as the next
prompt: hence a history is all tokens, and the gap that was dropped from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Lists are compared in blocks of this many tokens, which is done in C.
_BLOCK = 256


class Gap(NamedTuple):
    """``length`` tokens from ``start`` on that were dropped."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """Index of the first token after it."""
        return self.start + self.length


NO_GAP = Gap(0, 0)


class History:
    """All tokens of a conversation, of which those in ``gap`` are not in the cache."""

    def __init__(self, tokens: list[int], gap: Gap = NO_GAP) -> None:
        self.tokens, self.gap = tokens, gap

    @property
    def length(self) -> int:
        """Number of tokens without the gap: the next position in the cache."""
        return len(self.tokens) - self.gap.length

    def position(self, index: int) -> int:
        """Return the position in the cache of the token at ``index``, which is not in the gap."""
        return index if index <= self.gap.start else index - self.gap.length


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens at the beginning are the same."""
    limit = min(len(first), len(second))
    for start in range(0, limit, _BLOCK):
        end = min(start + _BLOCK, limit)
        if first[start:end] != second[start:end]:
            return next(i for i in range(start, end) if first[i] != second[i])
    return limit


def reusable(cached: History, wanted: History, *, can_shift: bool) -> int:
    """Return the index up to which ``cached`` has all of ``wanted``.

    With ``can_shift`` the gap may be made wider in the cache; it is never filled.
    """
    common = common_prefix(cached.tokens, wanted.tokens)
    same = cached.gap == wanted.gap
    if same and not wanted.gap.length:
        return common
    widens = (
        can_shift
        and cached.gap.length < wanted.gap.length
        and (not cached.gap.length or cached.gap.start == wanted.gap.start)
    )
    if (same or widens) and common > wanted.gap.end:
        return common
    return min([common, *(gap.start for gap in (cached.gap, wanted.gap) if gap.length)])
