"""What cache and scheduler need of a context; ``native.NativeContext`` is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    #: What a sequence has in the cache, as bytes of the decoder's own.
    State = bytes | memoryview


class Part(NamedTuple):
    """Tokens of one sequence in a batch; ``wants_logits`` means those of the last token."""

    sequence: int
    tokens: Sequence[int]
    position: int
    wants_logits: bool


class Decoder(Protocol):
    """``n_sequences`` sequences of tokens that share ``n_ctx`` cells.

    A token takes one cell; copies of a sequence share cells. Sequences are numbered from 0.
    """

    n_ctx: int
    n_batch: int
    n_sequences: int
    can_shift: bool

    def decode(self, parts: Sequence[Part]) -> bool:
        """Compute a batch of at most ``n_batch`` tokens.

        False if it was aborted: every sequence in it must then be truncated to where it was.
        """
        ...

    def truncate(self, sequence: int, position: int) -> bool:
        """Forget everything from ``position`` on; False if all had to go."""
        ...

    def copy(self, source: int, target: int, end: int) -> bool:
        """Give an empty sequence the cells ``[0, end)`` of another; False if it stays empty."""
        ...

    def shift(self, sequence: int, start: int, end: int) -> None:
        """Forget ``[start, end)`` and move what follows to ``start``.

        The cells that move must belong to this sequence alone. The next decode does the work and
        cannot be aborted, so it had better be short; nothing may be saved before it.
        """
        ...

    def state_size(self, sequence: int) -> int:
        """Return the size in bytes of what ``save`` returns."""
        ...

    def save(self, sequence: int) -> State:
        """Return a copy of what the sequence has in the cache."""
        ...

    def restore(self, sequence: int, state: State) -> bool:
        """Put a saved state into an empty sequence; False if it stays empty."""
        ...

    def clear(self) -> None:
        """Forget all sequences."""
        ...
