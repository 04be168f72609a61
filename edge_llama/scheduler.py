"""Many generations in one batch: who computes what next. Knows nothing of llama.cpp or threads.

Each step decodes one batch: a token of every generation that is answering, and a piece of the
prompts that are being read. A generation holds as many cells as it needs, up to the whole context.
When several need more than there are, the one that came last steps aside with its state, and goes
on later: whoever else is running never changes what a generation may see.
"""

from __future__ import annotations

from collections import deque
from itertools import chain, islice
from typing import TYPE_CHECKING

from .cache import WORTH_WAITING, History, SequencePool, reusable
from .decoder import Part
from .errors import StateError

if TYPE_CHECKING:
    from .cache import Sequence, StateStore
    from .decoder import Decoder
    from .generate import FinishReason, Generation

#: Prompt tokens in a batch while others are answering: they must not stand still for long.
_MIXED_PREFILL = 128
#: So many of those who wait are looked at, for each sequence there is.
_LOOKAHEAD = 2
#: This part of the context is left free for each generation to grow into.
_GROWTH = 16


class Scheduler:
    """Runs generations on ``decoder``; call :meth:`step` as long as it is not idle."""

    def __init__(self, decoder: Decoder, store: StateStore) -> None:
        self._decoder = decoder
        self._pool = SequencePool(decoder, store)
        self._waiting: deque[Generation] = deque()
        self._paused: deque[Generation] = deque()  # had begun before, and come first
        self._active: list[Generation] = []  # oldest first
        self._changed = False  # whether someone who waits might get a place now

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._active or self._paused or self._waiting)

    def checkpoint(self) -> None:
        """Save what would have to be read again if the process were killed; while idle."""
        self._pool.checkpoint()

    def add(self, generation: Generation) -> None:
        """Let a generation wait for its turn."""
        self._waiting.append(generation)
        self._changed = True

    def step(self) -> None:
        """Decode one batch."""
        self._end_cancelled()
        if self._changed or not self._active:
            self._admit()
        self._make_room()
        batch = self._batch()
        if not batch:
            return
        try:
            done = self._decoder.decode([part for _, part in batch])
        except Exception as error:  # noqa: BLE001 - handed to those who wait for it
            self.fail(error)
            return
        self._pool.is_shifted = False
        if done:
            self._advance(batch)
        else:
            for generation, _ in batch:
                _place(generation).rollback()

    def _advance(self, batch: list[tuple[Generation, Part]]) -> None:
        """Record what was decoded, and sample where there are logits."""
        index = -1
        for generation, part in batch:
            index += len(part.tokens)
            _place(generation).append(part.tokens)
            if len(part.tokens) > 1:
                self._changed = True  # someone may wait for what was read of this prompt
            if not part.wants_logits:
                continue
            try:
                generation.sample(index)
            except Exception as error:  # noqa: BLE001 - it is this generation's alone
                self._end(generation, error)
            else:
                if generation.reason is not None:
                    self._end(generation, generation.reason)

    # Admission

    def _admit(self) -> None:
        """Give sequences to those who wait, in order, except where waiting saves a prefill."""
        self._changed = False
        ahead = islice(self._waiting, _LOOKAHEAD * self._decoder.n_sequences)
        for generation in list(chain(self._paused, ahead)):
            if len(self._active) == self._decoder.n_sequences:
                return
            queue = self._paused if generation.has_begun else self._waiting
            if generation.client.cancelled and not generation.has_begun:
                queue.remove(generation)  # whoever cancelled it has ended it, or does so now
                continue
            try:
                if not self._place(generation, queue):
                    return
            except Exception as error:  # noqa: BLE001 - handed to the client
                if generation in self._waiting:
                    self._waiting.remove(generation)
                    if not generation.client.claim():
                        continue
                self._end(generation, error)

    def _place(self, generation: Generation, queue: deque[Generation]) -> bool:
        """Make a generation active if there is a place for it; False if all must wait."""
        n_ctx = self._decoder.n_ctx
        gap = generation.request.prompt.gap(len(generation.tokens), n_ctx)
        assert gap is not None  # noqa: S101 - such prompts are refused before
        wanted = History(generation.tokens, gap)
        source = self._pool.find(wanted)
        if self._coming(wanted) >= source.length + WORTH_WAITING:
            return True
        spare = 0
        if self._active:
            claimed = sum(_claim(other, n_ctx) for other in self._active)
            spare = claimed + _growth(generation, n_ctx)
        sequence = self._pool.take(source, wanted, spare=spare)
        if sequence is None:
            return False
        queue.remove(generation)
        if generation.has_begun or generation.client.claim():
            generation.gap = gap
            self._active.append(generation)
            generation.begin(sequence)
            if generation.reason is not None:
                self._end(generation, generation.reason)
        else:
            sequence.busy = False
        return True

    def _coming(self, wanted: History) -> int:
        """Return how many tokens of ``wanted`` are just being read for someone else."""
        return max(
            (
                wanted.position(reusable(History(other.tokens, other.gap), wanted, can_shift=False))
                for other in self._active
                if _missing(other) > 1
            ),
            default=0,
        )

    # Room in the cache

    def _make_room(self) -> None:
        """See to it that everyone who is active can go on by a token."""
        for generation in self._active[:]:
            if len(generation.tokens) - generation.gap.length > self._decoder.n_ctx:
                self._overflow(generation)
        if self._pool.free < len(self._active):
            self._pool.retire_idle()
            while self._pool.free < len(self._active) > 1:
                self._pause(self._active[-1])
        for generation in self._active:
            self._pool.set_gap(_place(generation), generation.gap)

    def _overflow(self, generation: Generation) -> None:
        """Widen the gap of a generation that the whole context does not hold, or end it."""
        try:
            gap = generation.request.prompt.gap(len(generation.tokens), self._decoder.n_ctx)
        except Exception as error:  # noqa: BLE001 - the template's own code may run here
            self._end(generation, error)
            return
        if gap is None:
            self._end(generation, "context")
        else:
            generation.gap = gap

    def _pause(self, generation: Generation) -> None:
        """Take a generation out of the cache; it goes on before anyone new begins."""
        self._active.remove(generation)
        self._paused.appendleft(generation)
        self._pool.park(_place(generation))
        generation.sequence = None

    # The batch

    def _batch(self) -> list[tuple[Generation, Part]]:
        """Return what to decode: first what answers need, then as much of prompts as fits."""
        batch, reading = [], []
        for generation in self._active:
            if _missing(generation) == 1:
                batch.append((generation, _part(generation, 1)))
            else:
                reading.append(generation)
        if reading:
            limit = self._decoder.n_batch - len(batch)
            if batch:
                limit = min(limit, _MIXED_PREFILL)
            limit = min(limit, self._pool.free - len(batch))
            most = 1 if self._pool.is_shifted else limit
            for generation in sorted(reading, key=_missing):  # short prompts wait for no long one
                if limit > 0:
                    part = _part(generation, min(limit, most))
                    limit -= len(part.tokens)
                    batch.append((generation, part))
        return batch

    # The end

    def _end_cancelled(self) -> None:
        for generation in [*self._active, *self._paused]:
            if generation.client.cancelled:
                self._end(generation, "cancelled")

    def _end(self, generation: Generation, result: FinishReason | BaseException) -> None:
        """End a generation; its sequence stays for the next prompt."""
        self._changed = True
        if generation in self._active:
            self._active.remove(generation)
        elif generation in self._paused:
            self._paused.remove(generation)
        if generation.sequence is not None:
            generation.sequence.busy = False
        generation.finish(result, self._decoder.n_ctx)

    def fail(self, error: BaseException) -> None:
        """End all that have begun with ``error``, and forget the cache, which is in doubt."""
        for generation in [*self._active, *self._paused]:
            self._end(generation, error)
        self._pool.clear()

    def close(self) -> None:
        """End everything: what has begun as cancelled, what waits with StateError."""
        for generation in [*self._active, *self._paused]:
            self._end(generation, "cancelled")
        while self._waiting:
            client = self._waiting.popleft().client
            if client.claim():
                hint = "Open it again with Model.open."
                client.finish(StateError("the model was closed", hint=hint))
        self._pool.close()


def _place(generation: Generation) -> Sequence:
    assert generation.sequence is not None  # noqa: S101 - it is active
    return generation.sequence


def _missing(generation: Generation) -> int:
    """Return how many tokens of an active generation are not in the cache."""
    return len(generation.tokens) - len(_place(generation).tokens)


def _claim(generation: Generation, n_ctx: int) -> int:
    """Return how many more cells an active generation needs soon."""
    unread = len(generation.tokens) - generation.gap.length - _place(generation).length
    return unread + _growth(generation, n_ctx)


def _growth(generation: Generation, n_ctx: int) -> int:
    """Return how many cells to leave free for an answer."""
    most = n_ctx // _GROWTH
    return most if generation.remaining is None else min(generation.remaining, most)


def _part(generation: Generation, limit: int) -> Part:
    """Return the next tokens of a generation to decode, at most ``limit``."""
    sequence, tokens, gap = _place(generation), generation.tokens, generation.gap
    start, end = len(sequence.tokens), len(tokens)
    if sequence.gap != gap:  # a prompt that was cut: read up to the gap, then from its end on
        if start < gap.start:
            end = gap.start
        else:
            sequence.skip(tokens, gap)
            start = gap.end
    end = min(end, start + limit)
    return Part(sequence.number, tokens[start:end], sequence.length, end == len(tokens))
