"""This side of one child: requests go out, answers and text come in, and the end is noticed."""

from __future__ import annotations

import contextlib
import itertools
import queue
import subprocess
import threading
from types import NoneType
from typing import TYPE_CHECKING, Any

from ..errors import EdgeLlamaError, StateError, WorkerDied
from ..generate import Reply
from ..logprobs import TokenLogprob
from .codec import decode, decode_error
from .frames import MAX_FROM_CHILD, FrameReader, ProtocolError, pack, write
from .log import LogReader
from .messages import CANCEL
from .spawn import describe_end, start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..delivery import Delivery

#: Seconds for a process that has closed its pipe to end, and for its log to be read.
_GRACE = 5.0


class Link:
    """A child process from its start to its end.

    Three threads: one starts the child, reads and stays for as long as the child does; one
    writes, so that whoever asks, perhaps a finalizer in the middle of something, never blocks; one
    reads the log.

    Raises:
        WorkerDied: no process can be started.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._calls: dict[int, tuple[queue.SimpleQueue[tuple[str, Any]], Any]] = {}
        self._jobs: dict[int, Delivery] = {}
        self._lock = threading.Lock()
        self._fault: str | None = None
        self._closing = self._ended = False
        self._process: subprocess.Popen[bytes] | None = None
        started: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()
        self._threads = [_thread(self._run, started)]
        self._threads[0].start()
        error = started.get()
        if error is not None:
            raise WorkerDied(
                f"no worker process can be started: {error}",
                hint="Check the limits of processes and memory.",
                exit_code=None,
            ) from error

    @property
    def is_alive(self) -> bool:
        """Whether the child still answers."""
        return not self._ended

    @property
    def pid(self) -> int:
        """The child's process id."""
        assert self._process is not None  # noqa: S101 - __init__ waits for it
        return self._process.pid

    def call(
        self,
        kind: str,
        payload: Any = None,
        *,
        answer: Any = NoneType,
        tell: Callable[[float], object] | None = None,
    ) -> Any:
        """Ask and wait for the answer, of type ``answer``; ``tell`` gets the progress.

        Raises:
            WorkerDied: the child is gone. EdgeLlamaError: what the child raised.
        """
        number, answers = next(self._numbers), queue.SimpleQueue[tuple[str, Any]]()
        with self._lock:
            if self._ended:
                raise self._end_error()
            self._calls[number] = answers, answer
        self._outbox.put(pack([kind, number, payload]))
        try:
            while True:
                kind, result = answers.get()
                if kind == "error":
                    raise result
                if kind == "ok":
                    return result
                if tell is not None:
                    tell(result)
        finally:
            with self._lock:
                self._calls.pop(number, None)

    def begin(self, jobs: Sequence[Delivery], kind: str, payload: dict[str, Any]) -> list[int]:
        """Ask for generations that fill ``jobs``; return their numbers, or raise as :meth:`call`.

        A job that is not begun is not finished either.
        """
        numbers = [next(self._numbers) for _ in jobs]
        with self._lock:
            self._jobs.update(zip(numbers, jobs, strict=True))
        try:
            self.call(kind, {**payload, "jobs": numbers})
        except BaseException:
            with self._lock:
                for number in numbers:
                    self._jobs.pop(number, None)
            for number in numbers:  # it may have begun, if it was Ctrl-C that ended the call
                self.cancel(number)
            raise
        return numbers

    def cancel(self, number: int) -> None:
        """End a generation; from any thread, also from a finalizer."""
        self._outbox.put(pack([CANCEL, number, None]))

    def close(self, kind: str) -> None:
        """Let the child end what runs and go; if it does not, kill it."""
        self._closing = True
        if threading.current_thread() not in self._threads:
            self._outbox.put(pack([kind, 0, None]))
            self._outbox.put(None)
            self._threads[0].join(_GRACE)
        self.kill()

    def kill(self) -> None:
        """End the child now, and wait until it is gone.

        A finalizer may run in a thread of this very link, which then goes on to the end itself.
        """
        self._closing = True
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.kill()
        if threading.current_thread() not in self._threads:
            self._threads[0].join()

    # The threads

    def _run(self, started: queue.SimpleQueue[OSError | None]) -> None:
        try:
            process = self._process = start()
        except OSError as error:
            self._ended = True
            started.put(error)
            return
        assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 - pipes
        self._log = LogReader(process.stderr.fileno())
        helpers = [_thread(self._write, process.stdin.fileno()), _thread(self._log.run)]
        self._threads += helpers
        for thread in helpers:
            thread.start()
        started.put(None)
        try:
            self._read(FrameReader(process.stdout.fileno(), MAX_FROM_CHILD))
        except (ProtocolError, RecursionError) as error:
            self._fault = str(error)
        self._outbox.put(None)
        try:
            process.wait(0 if self._fault else _GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for thread in helpers:
            thread.join(_GRACE)
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
        self._end()

    def _write(self, fd: int) -> None:
        while (frame := self._outbox.get()) is not None:
            try:
                write(fd, frame)
            except OSError:
                return  # the reader will see the end

    def _read(self, incoming: FrameReader) -> None:
        while (message := incoming.read()) is not None:
            if not (isinstance(message, list) and len(message) == 3):
                raise ProtocolError("a message of another form")
            kind, number, payload = message
            if kind in {"ok", "error", "progress"}:
                self._answer(kind, number, payload)
            else:
                self._deliver(kind, number, payload)

    def _answer(self, kind: str, number: Any, payload: Any) -> None:
        call, answer = self._calls.get(number, (None, Any))
        if kind == "error":
            payload = decode_error(payload)
        else:
            payload = decode(float if kind == "progress" else answer, payload)
        if call is not None:
            call.put((kind, payload))

    def _deliver(self, kind: str, number: Any, payload: Any) -> None:
        job = self._jobs.get(number)
        if job is None:
            return  # given up
        if kind == "failed":
            self._finish(number, decode_error(payload))
        elif kind in {"text", "reply"} and isinstance(payload, list) and len(payload) == 2:
            if payload[1]:
                job.logprobs += decode(list[TokenLogprob], payload[1])
            if kind == "text":
                job.push(decode(str, payload[0]))
            else:
                self._finish(number, decode(Reply, payload[0]))
        else:
            raise ProtocolError(f"a message of kind {kind!r:.40}")

    def _finish(self, number: int, result: Reply | EdgeLlamaError) -> None:
        with self._lock:
            job = self._jobs.pop(number, None)
        if job is not None:
            job.finish(result)

    # The end

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            calls, jobs = list(self._calls.values()), list(self._jobs.values())
            self._calls.clear()
            self._jobs.clear()
        for call, _ in calls:
            call.put(("error", self._end_error()))
        for job in jobs:
            job.finish(self._end_error())

    def _end_error(self) -> EdgeLlamaError:
        """Return an error for each who waits: one that is raised twice mixes up the traces."""
        if self._closing:
            return StateError("the model was closed", hint="Open it again with Model.open.")
        assert self._process is not None  # noqa: S101 - it has ended
        code, log = self._process.returncode, self._log
        how = self._fault or describe_end(code, tuple(log.raw))
        if self._fault:
            how = f"it sent {how}, and was ended"
        return WorkerDied(
            f"the worker process {self.pid} died: {how}",
            hint="Ask again: the next call starts a new one. The error's log has its last lines.",
            exit_code=code,
            log=tuple(log.lines),
        )


def _thread(run: Callable[..., None], *arguments: Any) -> threading.Thread:
    return threading.Thread(target=run, args=arguments, name="edge-llama-worker", daemon=True)
