"""One generation: prompt -> tokens -> text -> Reply. Knows nothing of llama.cpp or threads."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from .cache import NO_GAP
from .detokenize import TextDecoder
from .errors import IncompleteError, InvalidOptionError
from .stops import StopMatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .cache import Sequence as CacheSequence
    from .grammar import Grammar
    from .logprobs import TokenLogprob
    from .overflow import Prompt

FinishReason = Literal["stop", "length", "incomplete", "context", "cancelled"]


class Vocabulary(Protocol):
    """What the loop needs to know of tokens."""

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token."""
        ...

    def is_end(self, token: int) -> bool:
        """Tell whether the token ends the generation."""
        ...


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A finished generation. Times are in seconds.

    Attributes:
        text: everything that was generated, without the stop string.
        finish_reason: "stop" (the model, a stop string or the grammar ended it), "length"
            (max_tokens), "incomplete" (max_tokens, inside what the grammar asks for), "context"
            (no room left), "cancelled".
        tokens: the generated token ids, without the end token.
        prompt_tokens: tokens of the prompt that the model saw, of which ``cached_tokens`` were
            reused.
        context_tokens: tokens in the context now, of ``n_ctx``.
        dropped_tokens: tokens of conversation and answer that had to leave the context, so that
            the rest could stay; see :data:`~edge_llama.config.Overflow`.
        dropped_turns: turns at the beginning of the conversation that the model was not shown.
        prefill_seconds: until the first token could be chosen.
        decode_seconds: from the first token on.
        seed: what to pass to get the same text again.
        logprobs: one for each of ``tokens`` if :attr:`Sampling.logprobs` asked for them.
        grammar: what the text was kept to, if anything.
    """

    text: str
    finish_reason: FinishReason
    tokens: tuple[int, ...]
    prompt_tokens: int
    cached_tokens: int
    context_tokens: int
    n_ctx: int
    prefill_seconds: float
    decode_seconds: float
    seed: int
    dropped_tokens: int = 0
    dropped_turns: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    grammar: Grammar | None = field(default=None, repr=False)

    def parse(self) -> Any:
        """Return the value that the text stands for, as :meth:`Grammar.parse` makes it.

        Raises:
            InvalidOptionError: there was no grammar.
            IncompleteError: the text ends inside the structure, for whatever reason.
            InvalidOutputError: it is complete, but fails a check that was left for afterwards.
        """
        if self.grammar is None:
            raise InvalidOptionError(
                "there is nothing to parse: the answer is free text",
                hint="Pass grammar=, e.g. Grammar.json_schema(...), to what generates it.",
            )
        if self.finish_reason == "incomplete":
            raise IncompleteError(
                f"the answer was cut off inside its structure after {len(self.tokens)} tokens",
                hint="Use a larger max_tokens.",
                text=self.text,
            )
        return self.grammar.parse(self.text)

    @property
    def completion_tokens(self) -> int:
        """Number of generated tokens."""
        return len(self.tokens)

    @property
    def tokens_per_second(self) -> float:
        """Speed of generating; the first token belongs to the prefill."""
        steps = self.completion_tokens - 1
        return steps / self.decode_seconds if steps > 0 and self.decode_seconds > 0 else 0.0

    @property
    def prefill_tokens_per_second(self) -> float:
        """Speed of reading the part of the prompt that was not cached."""
        new = self.prompt_tokens - self.cached_tokens
        return new / self.prefill_seconds if self.prefill_seconds > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to generate: the prompt, the stop strings and the limit."""

    prompt: Prompt
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None


class Sampler(Protocol):
    """What chooses the tokens of one generation."""

    seed: int

    @property
    def may_end(self) -> bool:
        """Whether the text may end here; only a grammar says no."""
        ...

    @property
    def must_end(self) -> bool:
        """Whether nothing may follow; only a grammar says so."""
        ...

    def forced(self) -> Sequence[int]:
        """Return the tokens that the answer must begin with, if any; called once, first."""
        ...

    def sample(self, index: int) -> Sequence[int]:
        """Return a token for the logits at ``index`` in the batch that was just decoded.

        Tokens that must follow it come with it.
        """
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class Client(Protocol):
    """Who asked for a generation. ``cancelled`` may become true at any time."""

    cancelled: bool

    def claim(self) -> bool:
        """Return True to the first who asks, and False ever after: it was ended elsewhere."""
        ...

    def push(self, text: str) -> None:
        """Take a piece of the text."""
        ...

    def finish(self, result: Reply | BaseException) -> None:
        """Take the end; nothing comes after it."""
        ...


class Generation:
    """One request and how far it is.

    ``tokens`` are those of the prompt and the answer. Those of them that are not in ``sequence``
    yet are what is to be decoded next: the whole prompt, one token, or all that was lost.

    Attributes:
        gap: which of ``tokens`` were dropped to make them fit.
        sequence: its place in the cache, while it has one.
    """

    def __init__(
        self,
        request: Request,
        vocabulary: Vocabulary,
        client: Client,
        make_sampler: Callable[[], Sampler],
    ) -> None:
        self.request, self.client = request, client
        self.tokens = list(request.prompt.tokens)
        self.gap = NO_GAP
        self.sequence: CacheSequence | None = None
        self.reason: FinishReason | None = None
        self._vocabulary, self._make_sampler = vocabulary, make_sampler
        self._sampler: Sampler | None = None
        self._decoder, self._stops = TextDecoder(), StopMatcher(request.stop)
        self._text: list[str] = []
        self._prompt_tokens = self._cached = 0
        self._has_sampled = False
        self._started = self._first = self._last = time.perf_counter()

    @property
    def has_begun(self) -> bool:
        """Whether it had a sequence before."""
        return self._sampler is not None

    @property
    def remaining(self) -> int | None:
        """How many tokens it may still generate, if that is limited."""
        limit = self.request.max_tokens
        return None if limit is None else limit - self._n_generated

    @property
    def _n_generated(self) -> int:
        return len(self.tokens) - len(self.request.prompt.tokens)

    def begin(self, sequence: CacheSequence) -> None:
        """Take a place in the cache; what is in it already is reused.

        Sets ``reason`` if there is nothing to choose.
        """
        self.sequence = sequence
        if self._sampler is None:
            self._started = self._first = self._last = time.perf_counter()
            self._prompt_tokens = len(self.tokens) - self.gap.length
            self._cached = sequence.length
            self._sampler = self._make_sampler()
            self._take(self._sampler, self._sampler.forced())

    def sample(self, index: int) -> None:
        """Choose the next token, and hand its text over; sets ``reason`` if it was the last."""
        assert self._sampler is not None  # noqa: S101 - begin() came first
        tokens = self._sampler.sample(index)
        self._last = time.perf_counter()
        if not self._has_sampled:
            self._has_sampled, self._first = True, self._last
        self._take(self._sampler, tokens)

    def _take(self, sampler: Sampler, tokens: Sequence[int]) -> None:
        """Add tokens to the answer, as far as nothing ends it before."""
        left = len(tokens)
        for token in tokens:
            left -= 1
            if self._vocabulary.is_end(token):
                self.reason = "stop"
                return
            self.tokens.append(token)
            self._push(self._stops.push(self._decoder.push(self._vocabulary.piece(token))))
            if self._stops.stopped or (not left and sampler.must_end):
                self.reason = "stop"
                return
            if self._n_generated == self.request.max_tokens:
                self.reason = "length" if not left and sampler.may_end else "incomplete"
                return

    def _push(self, text: str) -> None:
        if text:
            self._text.append(text)
            self.client.push(text)

    def finish(self, result: FinishReason | BaseException, n_ctx: int) -> None:
        """End it, for whatever reason; the client gets a reply or the error."""
        sampler, self._sampler = self._sampler, None
        if not self._has_sampled:
            self._first = self._last = time.perf_counter()
        seed = 0
        if sampler is not None:
            seed = sampler.seed
            sampler.close()
        if isinstance(result, BaseException):
            self.client.finish(result)
            return
        self._push(self._stops.push(self._decoder.finish()))
        self._push(self._stops.finish())
        self.client.finish(self._reply(result, seed, n_ctx))

    def _reply(self, reason: FinishReason, seed: int, n_ctx: int) -> Reply:
        prompt = self.request.prompt
        return Reply(
            text="".join(self._text),
            finish_reason=reason,
            tokens=tuple(self.tokens[len(prompt.tokens) :]),
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached,
            context_tokens=0 if self.sequence is None else self.sequence.length,
            n_ctx=n_ctx,
            prefill_seconds=self._first - self._started,
            decode_seconds=self._last - self._first,
            seed=seed,
            dropped_tokens=self.gap.length,
            dropped_turns=prompt.dropped_turns,
        )
