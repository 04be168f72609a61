"""One sequence of the cache, with a record of what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .history import NO_GAP, History

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..decoder import Decoder, State
    from .cells import Cells
    from .history import Gap


class Sequence(History):
    """Decoder, ledger and token list are only changed here, together.

    A sequence is ``busy`` while a generation uses it; afterwards it is kept for the next prompt.
    """

    def __init__(self, number: int, decoder: Decoder, ledger: Cells) -> None:
        super().__init__([])
        self.number, self.busy = number, False
        self._decoder, self._ledger = decoder, ledger
        self._cells: list[int] = []  # one for each position

    def append(self, tokens: Collection[int]) -> None:
        """Record tokens that were decoded."""
        self._cells += self._ledger.take(len(tokens))
        self.tokens += tokens

    def rollback(self) -> None:
        """Bring the cache back to the record, after a decode that was aborted."""
        if not self._decoder.truncate(self.number, self.length):
            self._forget(0)

    def truncate(self, index: int) -> None:
        """Forget all tokens from ``index`` on, which is not inside the gap.

        Some models can only forget everything.
        """
        if index < len(self.tokens):
            kept = self._decoder.truncate(self.number, self.position(index))
            self._forget(index if kept else 0)

    def _forget(self, index: int) -> None:
        position = self.position(index)
        self._ledger.release(self._cells[position:])
        del self._cells[position:], self.tokens[index:]
        if index <= self.gap.start:
            self.gap = NO_GAP

    def copy(self, source: Sequence, index: int) -> None:
        """Share the tokens of ``source`` before ``index``; this sequence is empty."""
        position = source.position(index)
        if position and self._decoder.copy(source.number, self.number, position):
            self.tokens = source.tokens[:index]
            self.gap = source.gap if index > source.gap.start else NO_GAP
            self._cells = source._cells[:position]
            self._ledger.share(self._cells)

    def shares(self, other: Sequence, gap: Gap) -> bool:
        """Whether ``other`` holds cells that would move if the gap became ``gap``.

        Sequences only ever share a beginning, so the first such cell tells.
        """
        first = gap.end - self.gap.length
        moving = self._cells[first : first + 1]
        return bool(moving) and moving == other._cells[first : first + 1]

    def shift(self, gap: Gap) -> None:
        """Make the gap wider; what follows it moves down, and is not computed again.

        The decoder must be able to, and no other sequence share the cells.
        """
        behind = gap.end - self.gap.length
        self._decoder.shift(self.number, gap.start, behind)
        self._ledger.release(self._cells[gap.start : behind])
        del self._cells[gap.start : behind]
        self.gap = gap

    def skip(self, tokens: list[int], gap: Gap) -> None:
        """Leave out the gap of ``tokens``; the sequence ends where the gap begins."""
        self.tokens += tokens[gap.start : gap.end]
        self.gap = gap

    @property
    def state_size(self) -> int:
        """Size of a saved state in bytes."""
        return self._decoder.state_size(self.number)

    def save(self) -> State:
        """Return a copy of what is in the cache."""
        return self._decoder.save(self.number)

    def restore(self, saved: History, state: State) -> None:
        """Put a saved state back; this sequence is empty, and stays so if that fails."""
        if self._decoder.restore(self.number, state):
            self._cells = self._ledger.take(saved.length)
            self.tokens, self.gap = list(saved.tokens), saved.gap
