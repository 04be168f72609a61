"""The child's side of the conversation: does what the parent asks with a model of its own."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ..ask import Ask
from ..config import ModelConfig
from ..generate import Reply
from ..gguf_file import inspect
from ..local import Local
from ..stream import Job
from .codec import decode, encode, encode_error
from .frames import FrameReader, pack, write
from .messages import ASK, CANCEL, CLOSE, DETOKENIZE, MEMORY, OPEN, TEMPLATE, TOKENIZE, Ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..grammar import CompiledGrammar
    from ..overflow import Prompt
    from ..sampling import Sampling

#: Seconds within which texts go to the parent together, about as long as a screen shows a picture:
#: each message wakes two threads of the parent, which then lack where tokens are computed.
_TOGETHER = 0.016

#: Prompts that may be prepared at the same time; the engine runs as many as it was told.
_THREADS = 8


class _SentJob(Job):
    """A job whose text goes to the parent."""

    def __init__(self, server: Server, number: int, *job: Any) -> None:
        super().__init__(*job)
        self._server, self._number, self._sent = server, number, 0
        self._held, self._sent_at = "", 0.0

    def push(self, text: str) -> None:
        """Send a text, or hold it back until the next token if one has just been sent."""
        self._held += text
        now = time.perf_counter()
        if now - self._sent_at >= _TOGETHER:
            self._sent_at = now
            self._send_held()

    def _send_held(self) -> None:
        if self._held:
            text, self._held = self._held, ""
            self._server.send("text", self._number, [text, self._new_logprobs()])

    def finish(self, result: Reply | BaseException) -> None:
        self._server.jobs.pop(self._number, None)
        self.done.set()
        self._send_held()
        if isinstance(result, Reply):
            self._server.send("reply", self._number, [encode(result), self._new_logprobs()])
        else:
            self._server.send("failed", self._number, encode_error(result))

    def _new_logprobs(self) -> list[Any]:
        new = self.logprobs[self._sent :]
        self._sent += len(new)
        return [encode(one) for one in new]


class Server:
    """Answers requests, several at a time; one model."""

    def __init__(self, incoming: FrameReader, outgoing: int) -> None:
        self.jobs: dict[int, Job] = {}
        self._incoming, self._outgoing = incoming, outgoing
        self._writing = threading.Lock()
        self._model: Local | None = None
        self._handlers: dict[str, Callable[[int, Any], Any]] = {
            OPEN: self._open,
            ASK: self._ask,
            TOKENIZE: lambda _, text: self._local.tokenize(text),
            DETOKENIZE: lambda _, tokens: self._local.detokenize(tokens),
            TEMPLATE: lambda _, __: self._local.check_template(),
            MEMORY: lambda _, __: encode(self._local.memory()),
            CLOSE: lambda _, __: self._close(),
        }

    def run(self) -> None:
        """Answer until the parent has closed the model, or the pipe."""
        pool = ThreadPoolExecutor(_THREADS, "edge-llama-request")
        while (message := self._incoming.read()) is not None:
            kind, number, payload = message
            if kind == CANCEL:
                job = self.jobs.get(number)
                if job is not None:
                    self._local.cancel(job)
            elif kind == CLOSE and self._model is None:
                return
            else:
                pool.submit(self._answer, kind, number, payload)

    def send(self, kind: str, number: int, payload: Any) -> None:
        """Send a message; without a parent there is nothing left to do."""
        frame = pack([kind, number, payload])
        with self._writing:
            try:
                write(self._outgoing, frame)
            except OSError:
                os._exit(0)

    def _answer(self, kind: str, number: int, payload: Any) -> None:
        try:
            result = self._handlers[kind](number, payload)
        except BaseException as error:  # noqa: BLE001 - raised again by the parent
            self.send("error", number, encode_error(error))
        else:
            self.send("ok", number, result)

    @property
    def _local(self) -> Local:
        assert self._model is not None  # noqa: S101 - the parent opens it first
        return self._model

    def _open(self, number: int, payload: Any) -> Any:
        info = inspect(payload["path"])
        config = decode(ModelConfig, payload["config"])
        # The parent ends this process if the load is to be cancelled.
        self._model = Local.open(info, config, lambda done: self.send("progress", number, done))
        return encode(Ready(self._model.plan, self._model.config))

    def _close(self) -> None:
        self._local.close()
        os._exit(0)

    def _ask(self, _: int, payload: Any) -> None:
        numbers: Iterator[int] = iter(payload["jobs"])
        asks = [decode(Ask, one) for one in payload["asks"]]

        def make(prompt: Prompt, sampling: Sampling, grammar: CompiledGrammar | None) -> _SentJob:
            number = next(numbers)
            job = self.jobs[number] = _SentJob(self, number, prompt, sampling, grammar)
            return job

        try:
            self._local.submit(asks, make)
        except BaseException:
            for number in payload["jobs"]:
                self.jobs.pop(number, None)
            raise
