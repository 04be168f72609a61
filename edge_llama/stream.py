"""The consumer's side of a generation that runs in the engine's thread."""

from __future__ import annotations

import asyncio
import dataclasses
import queue
import sys
import threading
import weakref
from typing import TYPE_CHECKING

from .generate import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType

    from .grammar import CompiledGrammar
    from .guide import Guide
    from .logprobs import TokenLogprob
    from .overflow import Prompt
    from .sampling import Sampling

#: Blocking without a timeout cannot be interrupted by Ctrl-C on Windows.
_POLL_SECONDS = 0.1 if sys.platform == "win32" else None


class Job:
    """A generation on its way through the engine; shared by the engine and one Stream."""

    def __init__(
        self,
        prompt: Prompt,
        sampling: Sampling,
        on_reply: Callable[[Reply], None] | None = None,
        grammar: CompiledGrammar | None = None,
    ) -> None:
        self.prompt, self.sampling, self.on_reply = prompt, sampling, on_reply
        self.grammar = None if grammar is None else grammar.grammar
        self.guide: Guide | None = None if grammar is None else grammar.matcher()
        self.cancelled = False
        self.done = threading.Event()
        self.reply: Reply | None = None
        self.error: BaseException | None = None
        self.logprobs: list[TokenLogprob] = []
        self.texts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._unclaimed = [True]

    def claim(self) -> bool:
        """Return True to the first caller only: who may begin the job, or end it unbegun.

        Without a lock, because a forgotten stream is cancelled wherever the garbage collector
        happens to run, perhaps in a thread that holds the lock; ``list.pop`` is atomic.
        """
        try:
            return self._unclaimed.pop()
        except IndexError:
            return False

    def push(self, text: str) -> None:
        """Hand a piece of text to the stream."""
        self.texts.put(text)

    def finish(self, result: Reply | BaseException) -> None:
        """End the job, for every consumer."""
        if isinstance(result, Reply):
            logprobs = tuple(self.logprobs)
            result = dataclasses.replace(result, logprobs=logprobs, grammar=self.grammar)
        if isinstance(result, Reply) and self.on_reply is not None:
            try:
                self.on_reply(result)
            except BaseException as error:  # noqa: BLE001 - handed to the consumer
                result = error
        if isinstance(result, BaseException):
            self.error = result
        else:
            self.reply = result
        self.done.set()
        self.texts.put(None)


class Stream:
    """The text of a running generation; iterate it, or ``async for`` over it.

    May be used and cancelled from any thread. A stream that is no longer referenced cancels
    itself. As a context manager it cancels at the end of the block.
    """

    def __init__(self, job: Job, cancel: Callable[[Job], None]) -> None:
        self._job, self._cancel = job, cancel
        self._finalizer = weakref.finalize(self, cancel, job)
        self._finalizer.atexit = False  # the engine ends its jobs itself

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        text = self._next()
        if text is None:
            raise StopIteration
        return text

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        try:
            text = await asyncio.to_thread(self._next)
        except asyncio.CancelledError:
            self.cancel()
            raise
        if text is None:
            raise StopAsyncIteration
        return text

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cancel()
        self._job.done.wait()

    def _next(self) -> str | None:
        job = self._job
        while True:
            try:
                text = job.texts.get(timeout=_POLL_SECONDS)
                break
            except queue.Empty:
                continue
        if text is None:
            job.texts.put(None)  # every later call, from any thread, sees the end too
            if job.error is not None:
                raise job.error
        return text

    @property
    def finished(self) -> bool:
        """Whether the generation has ended; text may still wait to be read."""
        return self._job.done.is_set()

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...]:
        """One for each token so far, if asked for; at least of the text that was read."""
        return tuple(self._job.logprobs)

    def cancel(self) -> None:
        """End the generation, also in the middle of the prompt; the text so far stays."""
        self._cancel(self._job)

    @property
    def reply(self) -> Reply:
        """The finished :class:`~edge_llama.Reply`; waits for the end, raises what went wrong."""
        while not self._job.done.wait(_POLL_SECONDS):
            pass
        if self._job.error is not None:
            raise self._job.error
        assert self._job.reply is not None  # noqa: S101 - done without an error
        return self._job.reply
