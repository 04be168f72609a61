"""All sequences of a context: where a prompt finds its beginning, and who makes room for it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from ..errors import EdgeLlamaError
from .cells import Cells
from .history import History, reusable
from .park import Parked
from .sequence import Sequence

if TYPE_CHECKING:
    from ..decoder import Decoder, State
    from .history import Gap
    from .park import StateStore

#: Tokens that a copy from elsewhere must save before it is restored, or waited for.
WORTH_WAITING = 16
#: Tokens whose loss is worth a copy in host memory; copying a thousand takes about as long as
#: computing five.
WORTH_PARKING = 256


class Source(NamedTuple):
    """Where the beginning of a prompt is: up to which of its tokens, and how many these are."""

    holder: Sequence | Parked | None
    end: int
    length: int


class SequencePool:
    """The sequences of ``decoder``, and the states in ``store``.

    Sequences that nobody uses lie idle. They cost time as well as space, since attention looks at
    every cell up to the last one in use: the next prompt either takes one over or clears it.

    Attributes:
        is_shifted: whether the next decode has keys to move; see :meth:`Decoder.shift`.
    """

    def __init__(self, decoder: Decoder, store: StateStore) -> None:
        self._decoder, self._store = decoder, store
        self._make_sequences()

    def _make_sequences(self) -> None:
        self.is_shifted = False
        decoder, self._cells = self._decoder, Cells(self._decoder.n_ctx)
        self._sequences = [
            Sequence(number, decoder, self._cells) for number in range(decoder.n_sequences)
        ]

    @property
    def free(self) -> int:
        """Number of free cells."""
        return self._cells.free

    def find(self, wanted: History) -> Source:
        """Return where most of ``wanted`` is; its last token is always computed anew."""
        best = Source(None, 0, 0)
        for sequence in self._sequences:
            can_shift = not sequence.busy and self._decoder.can_shift
            source = self._source(sequence, wanted, can_shift=can_shift)
            if source.length > best.length:
                best = source

        def rate(history: History) -> int:
            return self._source(history, wanted, can_shift=self._decoder.can_shift).length

        parked = self._store.find(rate)
        if parked is not None and rate(parked) >= best.length + WORTH_WAITING:
            return self._source(parked, wanted, can_shift=self._decoder.can_shift)
        return best

    @staticmethod
    def _source(history: History, wanted: History, *, can_shift: bool) -> Source:
        end = min(reusable(history, wanted, can_shift=can_shift), len(wanted.tokens) - 1)
        holder = history if isinstance(history, Sequence | Parked) else None
        return Source(holder, end, wanted.position(end))

    def take(self, source: Source, wanted: History, *, spare: int) -> Sequence | None:
        """Return a sequence that begins with ``source`` and is busy from now on.

        None if ``wanted`` and ``spare`` more cells are not free. All other idle sequences are
        cleared, and parked if their loss were large. There must be one that is not busy.
        """
        holder = source.holder
        state: State | None = None
        if isinstance(holder, Parked):
            # Out of the store before others get in, or two conversations that do not fit into it
            # together would throw each other out.
            state = self._store.restore(holder)
        elif holder is not None and not holder.busy:
            self._park(holder, kept=holder.position(source.end), worth=WORTH_PARKING)
            holder.truncate(source.end)
        own = holder if isinstance(holder, Sequence) and not holder.busy else None
        self.retire_idle(own)
        if own is not None:
            self.set_gap(own, wanted.gap)
            needed = wanted.length - own.length
        elif isinstance(holder, Parked):
            needed = max(wanted.length, holder.length)
        else:
            needed = wanted.length - source.length
        fits = needed + spare <= self._cells.free
        if isinstance(holder, Parked) and state is not None:
            saved = state
            unused = holder.length - holder.position(source.end)
            if not fits or unused >= WORTH_PARKING:
                self._store.save(holder, holder.nbytes, lambda: saved)
        if not fits:
            return None
        sequence = own or next(one for one in self._sequences if not one.busy)
        if isinstance(holder, Parked) and state is not None:
            sequence.restore(holder, state)
            sequence.truncate(source.end)
        elif isinstance(holder, Sequence) and own is None:
            sequence.copy(holder, source.end)
        sequence.busy = True
        self.set_gap(sequence, wanted.gap)
        return sequence

    def set_gap(self, sequence: Sequence, gap: Gap) -> None:
        """Make the gap of a sequence as wide as ``gap``.

        Where its cache cannot be shifted, the sequence ends before the gap.
        """
        if sequence.gap == gap:
            return
        reaches = len(sequence.tokens) > gap.end
        others = [other for other in self._sequences if other is not sequence]
        shared = any(sequence.shares(other, gap) for other in others)
        if reaches and self._decoder.can_shift and not shared:
            sequence.shift(gap)
            self.is_shifted = True
        else:
            sequence.truncate(gap.start)

    def park(self, sequence: Sequence) -> None:
        """Save a sequence, whatever it has, and clear it."""
        self._park(sequence, kept=0, worth=1)
        sequence.truncate(0)
        sequence.busy = False

    def retire_idle(self, besides: Sequence | None = None) -> None:
        """Clear the sequences that nobody uses."""
        for sequence in self._sequences:
            if not sequence.busy and sequence is not besides and sequence.tokens:
                self._park(sequence, kept=0, worth=WORTH_PARKING)
                sequence.truncate(0)

    def checkpoint(self) -> None:
        """Leave copies of what nobody uses to a store that outlives this process, if it is killed.

        Only of what has grown by a quarter, or the copies of a long conversation would add up.
        """
        if self._store.persists:
            for sequence in self._sequences:
                worth = max(WORTH_PARKING, sequence.length // 4)
                if not sequence.busy and self._is_worth_a_copy(sequence, kept=0, worth=worth):
                    with contextlib.suppress(MemoryError, EdgeLlamaError):
                        self._store.checkpoint(sequence, sequence.save)

    def _park(self, sequence: Sequence, *, kept: int, worth: int) -> None:
        """Save a sequence if it is worth it."""
        if self._is_worth_a_copy(sequence, kept=kept, worth=worth):
            # Without a copy it will be read again, which is no reason to fail.
            with contextlib.suppress(MemoryError, EdgeLlamaError):
                self._store.save(sequence, sequence.state_size, sequence.save)

    def _is_worth_a_copy(self, sequence: Sequence, *, kept: int, worth: int) -> bool:
        """Whether ``worth`` of its tokens or more are in no other cache or store."""

        def rate(history: History) -> int:
            return sequence.position(reusable(history, sequence, can_shift=False))

        if self.is_shifted:  # its keys have yet to move
            return False
        others = [rate(other) for other in self._sequences if other is not sequence]
        parked = self._store.find(rate)
        known = max(kept, *others, 0 if parked is None else rate(parked))
        return sequence.length - known >= worth

    def clear(self) -> None:
        """Forget all sequences, after an error left the cache in doubt."""
        self._decoder.clear()
        self._make_sequences()

    def close(self) -> None:
        """Leave what is worth it to the store, if the store outlives this process.

        Nobody may be using a sequence any more.
        """
        if self._store.persists:
            self.retire_idle()
        self._store.close()
