"""A model without weights: a byte tokenizer, and a decoder whose "logits" betray every mistake.

The next token is a function of the tokens that a sequence sees and of their positions. A cell that
was lost, left over, shared wrongly or moved wrongly changes the text, and :func:`alone` says what
the text must be: one generation by itself, without any cache.
"""

from __future__ import annotations

import codecs
import json
import zlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from edge_llama.cache import MemoryStore
from edge_llama.generate import Generation, Reply, Request
from edge_llama.overflow import Prompt
from edge_llama.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edge_llama.decoder import Part, State
    from edge_llama.generate import Sampler

END = 256
#: What answers consist of; "\xc3\xa9" is a character, and so is half of it, but a broken one.
ALPHABET = b"abcd \xc3\xa9"


class ByteVocabulary:
    def piece(self, token: int) -> bytes:
        return bytes([token])

    def is_end(self, token: int) -> bool:
        return token == END


def request(
    tokens: Sequence[int],
    *,
    droppable: range = range(0),
    stop: tuple[str, ...] = (),
    max_tokens: int | None = None,
) -> Request:
    prompt = Prompt(tokens=list(tokens), find_droppable=lambda: droppable)
    return Request(prompt=prompt, stop=stop, max_tokens=max_tokens)


def choose(seed: int, seen: list[tuple[int, int]]) -> int:
    """Return the next token after ``seen``: positions and tokens."""
    drawn = zlib.crc32(repr((seed, seen)).encode())
    return END if drawn % 29 == 0 else ALPHABET[drawn // 29 % len(ALPHABET)]


def forced_after(seed: int, token: int) -> bytes:
    """Return what must come after a token: with odd seeds there is a grammar, so to speak."""
    return b"cab d" if seed % 2 and token == ord("d") else b""


@dataclass
class Cell:
    token: int
    position: int
    sequences: set[int]


class FakeDecoder:
    """As strict as llama.cpp, which aborts, and stricter where llama.cpp answers wrongly.

    ``can_cut=False`` is a model that can only forget all of a sequence. ``on_decode`` is called
    with each batch, and aborts it by returning True.
    """

    def __init__(
        self,
        n_ctx: int = 64,
        n_batch: int = 8,
        n_sequences: int = 1,
        *,
        can_shift: bool = True,
        can_cut: bool = True,
    ) -> None:
        self.n_ctx, self.n_batch, self.n_sequences = n_ctx, n_batch, n_sequences
        self.can_shift, self.can_cut = can_shift, can_cut
        self.cells: list[Cell | None] = [None] * n_ctx
        self.decoded = 0
        self.batches: list[list[Part]] = []
        self.on_decode: Callable[[Sequence[Part]], bool] = lambda _: False
        self.fails: Callable[[], bool] = lambda: False  # saving and restoring
        self._seen: dict[int, list[tuple[int, int]]] = {}
        self._shifted = False

    def of(self, sequence: int) -> list[Cell]:
        """Return the cells of a sequence by position."""
        found = [cell for cell in self.cells if cell is not None and sequence in cell.sequences]
        return sorted(found, key=lambda cell: cell.position)

    @property
    def free(self) -> int:
        return self.cells.count(None)

    def decode(self, parts: Sequence[Part]) -> bool:
        counts = [len(part.tokens) for part in parts]
        assert 0 < sum(counts) <= self.n_batch, "a batch llama.cpp would abort on"
        assert all(counts)
        assert len({part.sequence for part in parts}) == len(parts) <= self.n_sequences
        assert not self._shifted or max(counts) == 1, "too long a batch to be unabortable"
        self._seen = {}
        aborted = self.on_decode(parts) and not self._shifted
        self._shifted = False
        self.batches.append(list(parts))
        index = -1
        for part in parts:
            tokens = part.tokens[: len(part.tokens) // 2] if aborted else part.tokens
            for position, token in enumerate(tokens, part.position):
                assert position == len(self.of(part.sequence)), "a gap in the positions"
                self.cells[self.cells.index(None)] = Cell(token, position, {part.sequence})
            index += len(part.tokens)
            if part.wants_logits:
                self._seen[index] = [(cell.position, cell.token) for cell in self.of(part.sequence)]
        if aborted:
            self._seen = {}
            return False
        self.decoded += sum(counts)
        return True

    def seen(self, index: int) -> list[tuple[int, int]]:
        return self._seen[index]

    def truncate(self, sequence: int, position: int) -> bool:
        kept = self.can_cut or position in {0, len(self.of(sequence))}
        for cell in self.of(sequence)[position if kept else 0 :]:
            self._drop(cell, sequence)
        return kept

    def _drop(self, cell: Cell, sequence: int) -> None:
        cell.sequences.discard(sequence)
        if not cell.sequences:
            self.cells[self.cells.index(cell)] = None

    def copy(self, source: int, target: int, end: int) -> bool:
        cells = self.of(source)
        assert not self.of(target)
        assert 0 < end <= len(cells)
        if not self.can_cut and end != len(cells):
            return False
        for cell in cells[:end]:
            cell.sequences.add(target)
        return True

    def shift(self, sequence: int, start: int, end: int) -> None:
        assert self.can_shift
        cells = self.of(sequence)
        assert 0 <= start < end < len(cells)
        for cell in cells[start:end]:
            self._drop(cell, sequence)
        for cell in cells[end:]:
            assert cell.sequences == {sequence}, "another sequence's cell would move"
            cell.position -= end - start
        self._shifted = True

    def state_size(self, sequence: int) -> int:
        return 16 * len(self.of(sequence))

    def save(self, sequence: int) -> State:
        assert not self._shifted, "positions have moved, and keys have not"
        if self.fails():
            raise MemoryError
        return json.dumps([(cell.position, cell.token) for cell in self.of(sequence)]).encode()

    def restore(self, sequence: int, state: State) -> bool:
        assert not self.of(sequence)
        if self.fails():
            return False
        for position, token in json.loads(bytes(state)):
            self.cells[self.cells.index(None)] = Cell(token, position, {sequence})
        return True

    def clear(self) -> None:
        self.cells, self._shifted = [None] * self.n_ctx, False


class Unbound:
    """The part of a sampler that knows nothing of a grammar."""

    may_end, must_end = True, False

    def forced(self) -> Sequence[int]:
        return []


@dataclass
class FakeSampler(Unbound):
    decoder: FakeDecoder
    seed: int
    client: FakeClient

    def __post_init__(self) -> None:
        assert self.client.samplers == 0, "one sampler sees the whole answer"
        self.client.samplers = 1

    def sample(self, index: int) -> Sequence[int]:
        assert self.client.samplers == 1
        token = choose(self.seed, self.decoder.seen(index))
        return [token, *forced_after(self.seed, token)]

    def close(self) -> None:
        self.client.samplers -= 1


@dataclass
class Script(Unbound):
    """A sampler that says what it was told to."""

    tokens: Iterator[int]
    seed: int = 0

    def sample(self, index: int) -> Sequence[int]:
        assert index >= 0
        return [next(self.tokens)]

    def close(self) -> None:
        pass


class Ruled:
    """A sampler whose grammar allows a text only: what comes in one piece of it is forced.

    It is complete after each "." and ends after the last piece, without END.
    """

    seed = 0

    def __init__(self, *pieces: bytes, begins: bytes = b"") -> None:
        self.steps, self._pieces, self._begins, self._said = 0, list(pieces), begins, b""

    @property
    def may_end(self) -> bool:
        return self._said.endswith(b".")

    @property
    def must_end(self) -> bool:
        return not self._pieces

    def forced(self) -> Sequence[int]:
        self._said += self._begins
        return self._begins

    def sample(self, index: int) -> Sequence[int]:
        assert index >= 0
        self.steps += 1
        piece = self._pieces.pop(0)
        self._said += piece
        return piece

    def close(self) -> None:
        pass


@dataclass
class FakeClient:
    cancelled: bool = False
    texts: list[str] = field(default_factory=list)
    result: Reply | BaseException | None = None
    claimed: bool = False
    samplers: int = 0

    def claim(self) -> bool:
        first, self.claimed = not self.claimed, True
        return first

    def push(self, text: str) -> None:
        assert self.result is None
        assert text
        self.texts.append(text)

    def finish(self, result: Reply | BaseException) -> None:
        assert self.result is None
        assert self.samplers == 0, "not closed"
        self.result = result

    def cancel(self) -> None:
        """Cancel as the engine does."""
        self.cancelled = True
        if self.claim():
            self.finish(InterruptedError())

    @property
    def reply(self) -> Reply:
        assert isinstance(self.result, Reply), self.result
        assert "".join(self.texts) == self.result.text
        return self.result


class Bench:
    """A scheduler on a fake decoder."""

    def __init__(self, decoder: FakeDecoder, parked_bytes: int = 0) -> None:
        self.decoder, self.store = decoder, MemoryStore(parked_bytes)
        self.scheduler = Scheduler(decoder, self.store)

    def add(
        self, request: Request, seed: int = 0, make_sampler: Callable[[], Sampler] | None = None
    ) -> FakeClient:
        client = FakeClient()
        make = make_sampler or partial(FakeSampler, self.decoder, seed, client)
        self.scheduler.add(Generation(request, ByteVocabulary(), client, make))
        return client

    def run(self, *, most: int = 10_000) -> None:
        """Step until everything is done."""
        for _ in range(most):
            if self.scheduler.is_idle:
                return
            self.step()
        raise AssertionError("it does not come to an end")

    def step(self) -> None:
        """Take a step, and compare every record with what it is a record of."""
        self.scheduler.step()
        pool = self.scheduler._pool
        assert pool.free == self.decoder.free
        for sequence in pool._sequences:
            cells = self.decoder.of(sequence.number)
            assert [cell.position for cell in cells] == list(range(len(cells)))
            kept = sequence.tokens[: sequence.gap.start] + sequence.tokens[sequence.gap.end :]
            assert [cell.token for cell in cells] == kept

    def one(
        self, request: Request, seed: int = 0, make_sampler: Callable[[], Sampler] | None = None
    ) -> Reply:
        client = self.add(request, seed, make_sampler)
        self.run()
        return client.reply


@dataclass(frozen=True)
class Expected:
    text: str
    reason: str
    tokens: tuple[int, ...]
    dropped: int


def alone(request: Request, seed: int, n_ctx: int) -> Expected:
    """Return what a request gives, computed without a cache, a batch or anyone beside it."""
    prompt, tokens, text, gap = request.prompt, list(request.prompt.tokens), "", 0

    def result(reason: str) -> Expected:
        found = [text.index(stop) for stop in request.stop if stop in text]
        answer = tuple(tokens[len(prompt.tokens) :])
        return Expected(text[: min(found)] if found else text, reason, answer, gap)

    while True:
        dropped = prompt.gap(len(tokens), n_ctx)
        if dropped is None:
            reason = "context"
            break
        gap = dropped.length
        token = choose(seed, list(enumerate(tokens[: dropped.start] + tokens[dropped.end :])))
        if token == END:
            reason = "stop"
            break
        coming = [token, *forced_after(seed, token)]
        reason = ""
        while coming and not reason:
            tokens.append(coming.pop(0))
            answer = bytes(tokens[len(prompt.tokens) :])
            text = codecs.getincrementaldecoder("utf-8")("replace").decode(answer)
            if any(stop in text for stop in request.stop):
                return result("stop")
            if len(answer) == request.max_tokens:
                reason = "incomplete" if coming else "length"
        if reason:
            break
    text = bytes(tokens[len(prompt.tokens) :]).decode("utf-8", "replace")
    return result(reason)
