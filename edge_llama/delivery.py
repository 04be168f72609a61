"""What a running generation hands to whoever reads it, and how readers wait for that.

A reader is a thread that blocks, or a task of an event loop that must not: a task leaves a
callback behind, which is called at the next piece of text, or at the end.
"""

from __future__ import annotations

import dataclasses
import queue
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

from .forks import Home
from .generate import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from .grammar import Grammar
    from .logprobs import TokenLogprob

#: Blocking without a timeout cannot be interrupted by Ctrl-C on Windows.
_POLL_SECONDS = 0.1 if sys.platform == "win32" else None


class Delivery:
    """The text, the log probabilities and the end of one generation.

    One thread delivers (``push``, ``finish``); any number read. Nothing here takes a lock for
    long, and what wakes readers up is atomic: it may be called wherever the garbage collector
    happens to run.
    """

    def __init__(
        self, on_reply: Callable[[Reply], None] | None = None, grammar: Grammar | None = None
    ) -> None:
        self.on_reply, self.grammar = on_reply, grammar
        self.done = threading.Event()
        self.reply: Reply | None = None
        self.error: BaseException | None = None
        self.logprobs: list[TokenLogprob] = []
        self._home = Home()
        self._texts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._at_text: deque[Callable[[], object]] = deque()
        self._at_end: deque[Callable[[], object]] = deque()

    def push(self, text: str) -> None:
        """Hand over a piece of text."""
        self._texts.put(text)
        _call_all(self._at_text)

    def finish(self, result: Reply | BaseException) -> None:
        """End it, for every reader."""
        if isinstance(result, Reply):
            logprobs = tuple(self.logprobs)
            result = dataclasses.replace(result, logprobs=logprobs, grammar=self.grammar)
        if isinstance(result, Reply) and self.on_reply is not None:
            try:
                self.on_reply(result)
            except BaseException as error:  # noqa: BLE001 - handed to the reader
                result = error
        if isinstance(result, BaseException):
            self.error = result
        else:
            self.reply = result
        self.done.set()
        self._texts.put(None)
        _call_all(self._at_text)
        _call_all(self._at_end)

    def next_text(self) -> str | None:
        """Wait for a piece of text; None at the end, or the error that ended it."""
        while True:
            self._home.check()
            try:
                return self._checked(self._texts.get(timeout=_POLL_SECONDS))
            except queue.Empty:
                continue

    def text_now(self) -> str | None:
        """Return as :meth:`next_text`, or raise ``queue.Empty`` if there is nothing yet."""
        self._home.check()
        return self._checked(self._texts.get_nowait())

    def _checked(self, text: str | None) -> str | None:
        if text is None:
            self._texts.put(None)  # every later call, from any thread, sees the end too
            if self.error is not None:
                raise self.error
        return text

    def result(self) -> Reply:
        """Wait for the end; return the reply or raise the error."""
        self.wait()
        if self.error is not None:
            raise self.error
        assert self.reply is not None  # noqa: S101 - done without an error
        return self.reply

    def wait(self) -> None:
        """Wait for the end."""
        self._home.check()
        while not self.done.wait(_POLL_SECONDS):
            pass

    def notify_text(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once, from any thread, when there is text or the end."""
        self._at_text.append(callback)
        if not self._texts.empty():  # it came in between
            _call_all(self._at_text)

    def notify_end(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once, from any thread, at the end."""
        self._at_end.append(callback)
        if self.done.is_set():
            _call_all(self._at_end)


def _call_all(callbacks: deque[Callable[[], object]]) -> None:
    while callbacks:
        try:
            callback = callbacks.popleft()
        except IndexError:  # another thread was faster
            return
        callback()
