"""The consumer's side of a generation that runs elsewhere: a thread, or a process."""

from __future__ import annotations

import queue
import weakref
from functools import partial
from typing import TYPE_CHECKING

from .delivery import Delivery
from .forks import Home
from .waiting import until_called

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType

    from .generate import Reply
    from .grammar import CompiledGrammar
    from .guide import Guide
    from .logprobs import TokenLogprob
    from .overflow import Prompt
    from .sampling import Sampling


class Job(Delivery):
    """A generation on its way through the engine; shared by the engine and one Stream."""

    def __init__(
        self,
        prompt: Prompt,
        sampling: Sampling,
        grammar: CompiledGrammar | None = None,
        on_reply: Callable[[Reply], None] | None = None,
    ) -> None:
        super().__init__(on_reply, None if grammar is None else grammar.grammar)
        self.prompt, self.sampling = prompt, sampling
        self.guide: Guide | None = None
        if grammar is not None:
            self.guide = grammar.matcher(forcing=sampling.jumps)
        self.cancelled = False
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


class Stream:
    """The text of a running generation; iterate it, or ``async for`` over it.

    May be used and cancelled from any thread. A stream that is no longer referenced cancels
    itself. As a context manager it cancels at the end of the block.
    """

    def __init__(self, job: Delivery, cancel: Callable[[], object]) -> None:
        self._job = job
        self._cancel = partial(_cancel, Home(), job, cancel)
        self._finalizer = weakref.finalize(self, self._cancel)
        self._finalizer.atexit = False  # the engine ends its jobs itself

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        text = self._job.next_text()
        if text is None:
            raise StopIteration
        return text

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        while True:
            try:
                text = self._job.text_now()
            except queue.Empty:
                await until_called(self._job.notify_text, self.cancel)
                continue
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
        self._job.wait()

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
        self._cancel()

    @property
    def reply(self) -> Reply:
        """The finished :class:`~edge_llama.Reply`; waits for the end, raises what went wrong."""
        return self._job.result()

    async def areply(self) -> Reply:
        """Return :attr:`reply` without blocking the event loop; if cancelled, so is the rest."""
        if not self.finished:
            await until_called(self._job.notify_end, self.cancel)
        return self._job.result()


def _cancel(home: Home, job: Delivery, cancel: Callable[[], object]) -> None:
    if home.is_here and not job.done.is_set():
        cancel()
