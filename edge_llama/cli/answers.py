"""Answers as JSON: one document, or lines as they are generated."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any

from ..errors import EdgeLlamaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..generate import Reply
    from ..logprobs import TokenLogprob
    from ..stream import Stream


def answer_facts(reply: Reply) -> dict[str, Any]:
    """Return what a reply says, for JSON; ``parsed`` is null if it is incomplete."""
    facts: dict[str, Any] = {
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "seed": reply.seed,
    }
    if reply.grammar is not None:
        facts["parsed"] = None
        with contextlib.suppress(EdgeLlamaError):
            facts["parsed"] = reply.parse()
    if reply.logprobs:
        facts["logprobs"] = _logprobs(reply)
    facts["usage"] = {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "context": reply.n_ctx,
        "dropped_tokens": reply.dropped_tokens,
    }
    facts["timings"] = {
        "prefill_seconds": round(reply.prefill_seconds, 4),
        "decode_seconds": round(reply.decode_seconds, 4),
        "prefill_tokens_per_second": round(reply.prefill_tokens_per_second, 2),
        "tokens_per_second": round(reply.tokens_per_second, 2),
    }
    return facts


def _logprobs(reply: Reply) -> list[dict[str, Any]]:
    def entry(one: TokenLogprob) -> dict[str, Any]:
        return {"token": one.token, "text": one.text, "logprob": round(one.logprob, 6)}

    return [{**entry(one), "top": [entry(other) for other in one.top]} for one in reply.logprobs]


def as_they_come(streams: Sequence[Stream]) -> Iterator[tuple[int, str | Reply]]:
    """Yield pieces of text with the number of their stream, and each stream's reply at its end.

    Raises:
        EdgeLlamaError: a stream failed.
    """
    arrived: queue.SimpleQueue[tuple[int, str | Reply | BaseException]] = queue.SimpleQueue()

    def read(number: int, stream: Stream) -> None:
        try:
            for text in stream:
                arrived.put((number, text))
            arrived.put((number, stream.reply))
        except BaseException as error:  # noqa: BLE001 - raised where the streams are read
            arrived.put((number, error))

    for number, stream in enumerate(streams):
        threading.Thread(target=read, args=(number, stream), daemon=True).start()
    running = len(streams)
    while running:
        number, what = arrived.get()
        if isinstance(what, BaseException):
            raise what
        running -= not isinstance(what, str)
        yield number, what
