"""One thread per model that owns the context: every decode happens there, one job at a time.

llama.cpp aborts when two threads decode in one context, and a decode in the main thread would
keep Ctrl-C waiting. Consumers get text through a queue, so what they do with it (printing,
drawing) overlaps with the next token.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from .errors import EdgeLlamaError, StateError
from .generate import Generation, Request
from .logprobs import token_logprob
from .native import NativeSampler
from .session import Session

if TYPE_CHECKING:
    from .generate import Reply
    from .native import NativeContext, NativeModel
    from .stream import Job


class Engine:
    """Runs jobs in order; owns model and context and frees them in its own thread."""

    def __init__(self, model: NativeModel, context: NativeContext) -> None:
        self._model, self._context = model, context
        self._session = Session(context)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running: Job | None = None
        self._closing = False
        # A daemon, or a generation in progress would keep the interpreter from ending; close()
        # runs at exit and waits for the thread, so that nothing native outlives Python.
        self._thread = threading.Thread(target=self._work, name="edge-llama", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue ``job``; StateError once the engine is closing."""
        with self._lock:
            if self._closing:
                raise StateError("the model is closed", hint="Open it again with Model.open.")
            self._jobs.put(job)

    def cancel(self, job: Job) -> None:
        """End ``job``, whether it waits or runs; from any thread."""
        job.cancelled.set()
        with self._lock:
            if self._running is job:
                self._context.request_abort()

    def close(self) -> None:
        """Cancel what runs, fail what waits, free all memory; returns when that is done."""
        with self._lock:
            first, self._closing = not self._closing, True
            running = self._running
        if first:
            if running is not None:
                self.cancel(running)
            self._jobs.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                self._run(job)
        finally:
            self._context.close()  # before the model: it uses the weights
            self._model.close()

    def _run(self, job: Job) -> None:
        with self._lock:
            closing = self._closing
            self._context.clear_abort()
            if not job.cancelled.is_set():
                self._running = job
        try:
            if closing:
                raise StateError("the model was closed", hint="Open it again with Model.open.")
            reply = self._generate(job)
            if job.on_reply is not None:
                job.on_reply(reply)
            job.finish(reply)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer
            if not isinstance(error, EdgeLlamaError):
                self._session.reset()
            job.finish(error)
        finally:
            with self._lock:
                self._running = None

    def _generate(self, job: Job) -> Reply:
        sampling, context = job.sampling, self._context
        with NativeSampler(self._model, sampling) as sampler:
            sampler.accept(job.prompt)

            def sample() -> int:
                token = sampler.sample(context)
                if sampling.logprobs is not None and not self._model.is_end(token):
                    logits, spelling = context.logits_at(), self._model.spelling
                    job.logprobs.append(token_logprob(logits, token, sampling.logprobs, spelling))
                return token

            generation = Generation(
                self._session,
                self._model,
                Request(
                    prompt=job.prompt,
                    stop=sampling.stop,
                    max_tokens=sampling.max_tokens,
                    seed=sampler.seed,
                ),
                sample=sample,
                cancelled=job.cancelled.is_set,
            )
            for text in generation:
                job.texts.put(text)
        return replace(generation.reply, logprobs=tuple(job.logprobs))
