"""The token loop: prompt -> tokens -> text -> Reply. Knows nothing of llama.cpp or threads."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from .detokenize import TextDecoder
from .errors import InvalidOptionError
from .stops import StopMatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .logprobs import TokenLogprob
    from .session import Session

FinishReason = Literal["stop", "length", "context", "cancelled"]


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
        finish_reason: "stop" (the model or a stop string ended it), "length" (max_tokens),
            "context" (no room left), "cancelled".
        tokens: the generated token ids, without the end token.
        prompt_tokens: tokens of the prompt, of which ``cached_tokens`` were reused.
        context_tokens: tokens in the context now, of ``n_ctx``.
        prefill_seconds: until the first token could be chosen.
        decode_seconds: from the first token on.
        seed: what to pass to get the same text again.
        logprobs: one for each of ``tokens`` if :attr:`Sampling.logprobs` asked for them.
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
    logprobs: tuple[TokenLogprob, ...] = ()

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
    """What to generate: the prompt's token ids, the stop strings and the limit."""

    prompt: Sequence[int]
    stop: tuple[str, ...]
    max_tokens: int | None
    seed: int


class Generation:
    """One run of the loop; iterate it for text, then read ``reply``.

    ``sample`` chooses the next token after a decode; ``cancelled`` is asked before every step.
    """

    def __init__(
        self,
        session: Session,
        vocabulary: Vocabulary,
        request: Request,
        *,
        sample: Callable[[], int],
        cancelled: Callable[[], bool],
    ) -> None:
        if not request.prompt:
            raise InvalidOptionError("the prompt is empty", hint="Give at least one character.")
        self._session, self._vocabulary, self._request = session, vocabulary, request
        self._sample, self._cancelled = sample, cancelled
        self._tokens: list[int] = []
        self._text: list[str] = []
        self._reason: FinishReason = "stop"
        self._cached = 0
        self._started = time.perf_counter()
        self._first = self._last = self._started

    def __iter__(self) -> Iterator[str]:
        for text in self._visible():
            if text:
                self._text.append(text)
                yield text

    def _visible(self) -> Iterator[str]:
        """Text up to the first stop string."""
        decoder, stops = TextDecoder(), StopMatcher(self._request.stop)
        for token in self._run():
            yield stops.push(decoder.push(self._vocabulary.piece(token)))
            if stops.stopped:
                return
        yield stops.push(decoder.finish())
        yield stops.finish()

    def _run(self) -> Iterator[int]:
        """Tokens until something ends them; sets the reason."""
        session, request = self._session, self._request
        cached = session.prefill(request.prompt, cancelled=self._cancelled)
        self._first = self._last = time.perf_counter()
        if cached is None:
            self._reason = "cancelled"
            return
        self._cached = cached
        while True:
            token = self._sample()
            self._last = time.perf_counter()
            if not self._tokens:
                self._first = self._last
            if self._vocabulary.is_end(token):
                return
            self._tokens.append(token)
            yield token
            if len(self._tokens) == request.max_tokens:
                self._reason = "length"
                return
            if session.is_full:
                self._reason = "context"
                return
            if self._cancelled() or not session.append(token):
                self._reason = "cancelled"
                return

    @property
    def reply(self) -> Reply:
        """The result, once the iteration has ended."""
        return Reply(
            text="".join(self._text),
            finish_reason=self._reason,
            tokens=tuple(self._tokens),
            prompt_tokens=len(self._request.prompt),
            cached_tokens=self._cached,
            context_tokens=len(self._session.tokens),
            n_ctx=self._session.n_ctx,
            prefill_seconds=self._first - self._started,
            decode_seconds=self._last - self._first,
            seed=self._request.seed,
        )
