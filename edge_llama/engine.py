"""One thread per model that owns the context: every decode happens there.

llama.cpp aborts when two threads decode in one context, and a decode in the main thread would
keep Ctrl-C waiting. Consumers get text through a queue, so what they do with it (printing,
drawing) overlaps with the next token. All jobs run in one batch: see ``scheduler``.

What other threads may do is little: put jobs into a queue, set ``job.cancelled`` and the abort
flag. The engine clears the flag before it looks at who is cancelled, and those who cancel set it
last; so either the engine sees the job cancelled, or the decode that it begins is aborted.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from functools import partial
from typing import TYPE_CHECKING

from .errors import StateError
from .generate import Generation, Reply, Request
from .logprobs import token_logprob
from .native import NativeSampler, release_threads
from .scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .cache import StateStore
    from .native import NativeContext, NativeModel
    from .stream import Job

#: Seconds without work after which what was read is worth saving.
_REST_SECONDS = 0.5


class _Choice:
    """A sampler beside the context that it reads from, and the job that wants its tokens."""

    def __init__(self, model: NativeModel, context: NativeContext, job: Job) -> None:
        self._model, self._context, self._job = model, context, job
        self._sampler = NativeSampler(model, job.sampling)
        self._sampler.accept(job.prompt.tokens)
        self.seed, self._guide = self._sampler.seed, job.guide
        self._jumps = job.sampling.jumps

    @property
    def may_end(self) -> bool:
        return self._guide is None or self._guide.may_end

    @property
    def must_end(self) -> bool:
        return self._guide is not None and self._guide.must_end

    def forced(self) -> Sequence[int]:
        """Return the tokens that must come next, if any, and take them as chosen."""
        if self._guide is None or not self._jumps:
            return []
        tokens = self._guide.forced()
        if tokens:
            self._guide.push(tokens)
            self._sampler.accept(tokens)
        return tokens

    def sample(self, index: int) -> Sequence[int]:
        """Choose a token from the logits at ``index`` in the last batch."""
        sampler, guide = self._sampler, self._guide
        n_top = self._job.sampling.logprobs
        if n_top is not None:
            logits = self._context.logits_at(index)
            if guide is not None:
                logits = logits.copy()  # they are masked
        if guide is None:
            token = sampler.sample(self._context, index)
        else:
            token = sampler.sample_within(
                self._context, index, guide, masks_first=not self._job.sampling.jump_ahead
            )
            guide.push([token])
        if n_top is not None and not self._model.is_end(token):
            spelling = self._model.spelling
            self._job.logprobs.append(token_logprob(logits, token, n_top, spelling))
        return [token, *self.forced()]

    def close(self) -> None:
        self._sampler.close()


class Engine:
    """Runs jobs; owns model and context and frees them in its own thread.

    ``store`` holds the states of conversations that left the cache.
    """

    def __init__(self, model: NativeModel, context: NativeContext, store: StateStore) -> None:
        self._model, self._context = model, context
        self._scheduler = Scheduler(context, store)
        self._inbox: queue.SimpleQueue[Sequence[Job]] = queue.SimpleQueue()
        self._lock = threading.Lock()  # nothing may be put into the inbox after the last job
        self._closing = False
        # A daemon, or a generation in progress would keep the interpreter from ending; close()
        # runs at exit and waits for the thread, so that nothing native outlives Python.
        self._thread = threading.Thread(target=self._work, name="edge-llama", daemon=True)
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue ``jobs``, which arrive together; StateError once the engine is closing."""
        with self._lock:
            if self._closing:
                raise StateError("the model is closed", hint="Open it again with Model.open.")
            self._inbox.put(jobs)

    def cancel(self, job: Job) -> None:
        """End ``job``, whether it waits or runs; from any thread, also from a finalizer."""
        if job.done.is_set():
            return
        job.cancelled = True
        if job.claim():  # it has not begun, and now it never will
            job.finish(self._unbegun(job))
        else:
            self._context.request_abort()

    def close(self) -> None:
        """Cancel what runs, fail what waits, free all memory; returns when that is done."""
        with self._lock:
            first, self._closing = not self._closing, True
            if first:
                self._inbox.put(())  # wakes it up
                self._context.request_abort()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        try:
            while True:
                self._context.clear_abort()
                self._receive()
                if self._closing:
                    break
                self._safely(self._scheduler.step)
        finally:
            with self._lock:
                self._closing = True
            self._receive()
            self._scheduler.close()
            self._context.close()  # before the model: it uses the weights
            self._model.close()

    def _receive(self) -> None:
        """Take what has arrived; wait for something if there is nothing else to do."""
        wait = self._scheduler.is_idle and not self._closing
        while wait or not self._inbox.empty():
            for job in self._next():
                self._scheduler.add(self._generation(job))
            wait = False

    def _next(self) -> Sequence[Job]:
        """Return what arrives next; when nothing has for a moment, what was read is saved."""
        if self._inbox.empty():
            release_threads()
        with contextlib.suppress(queue.Empty):
            return self._inbox.get(timeout=_REST_SECONDS)
        self._safely(self._scheduler.checkpoint)
        return self._inbox.get()

    def _safely(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - a fault of ours; nobody may wait for ever
            self._scheduler.fail(error)

    def _generation(self, job: Job) -> Generation:
        request = Request(
            prompt=job.prompt, stop=job.sampling.stop, max_tokens=job.sampling.max_tokens
        )
        make_sampler = partial(_Choice, self._model, self._context, job)
        return Generation(request, self._model, job, make_sampler)

    def _unbegun(self, job: Job) -> Reply:
        """Return the reply to a job that was cancelled before its turn came."""
        return Reply(
            text="",
            finish_reason="cancelled",
            tokens=(),
            prompt_tokens=0,
            cached_tokens=0,
            context_tokens=0,
            n_ctx=self._context.n_ctx,
            prefill_seconds=0.0,
            decode_seconds=0.0,
            seed=job.sampling.seed or 0,
        )
