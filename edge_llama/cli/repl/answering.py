"""One answer: from the question to the last word, with Ctrl-C in between."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from ...errors import EdgeLlamaError
from ..interrupt import Leave

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from ...generate import Reply
    from ...stream import Stream
    from .session import Session
    from .view import View


class _Stopper:
    """What Ctrl-C does during an answer: the first stops it, the second leaves."""

    def __init__(self) -> None:
        self._stream: Stream | None = None
        self._pressed = False

    def watch(self, stream: Stream) -> None:
        """Stop ``stream`` from now on."""
        self._stream = stream
        if self._pressed:
            stream.cancel()

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Handle the signal."""
        if self._pressed:
            raise Leave
        self._pressed = True
        if self._stream is not None:
            # In a thread: this one may hold the very lock that ending a stream needs.
            threading.Thread(target=self._stream.cancel, daemon=True).start()


def answer(session: Session, question: str, view: View) -> Reply:
    """Ask ``question`` and show the answer; what was said is kept however it ends.

    Ctrl-C ends the answer, not the program: the reply then says "cancelled".

    Raises:
        EdgeLlamaError: there is no answer.
        Leave: Ctrl-C was pressed again before the answer had ended.
    """
    stopper = _Stopper()
    with _on_ctrl_c(stopper):
        view.begin()
        try:
            stream = session.ask(question)
        except BaseException:
            view.end()
            raise
        stopper.watch(stream)
        try:
            for text in stream:
                view.push(text)
                session.push(text)
            reply = stream.reply
        except EdgeLlamaError:
            session.fail()
            raise
        except BaseException:  # the program is to end, or its reader is gone: what there is stays
            stream.cancel()
            session.keep()
            raise
        finally:
            view.end()
        session.end(reply)
    return reply


@contextlib.contextmanager
def _on_ctrl_c(handler: _Stopper) -> Iterator[None]:
    try:
        before = signal.signal(signal.SIGINT, handler)
    except ValueError:  # not the main thread: whoever runs it there handles its signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
