"""Signals that end a command as Ctrl-C does, so that it can clean up."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

#: ``kill``, a closed terminal, and Windows' Ctrl-Break.
_SIGNALS = ("SIGTERM", "SIGHUP", "SIGBREAK")


class Leave(KeyboardInterrupt):
    """The program is to end, whatever Ctrl-C alone would mean at the moment."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise Leave, a KeyboardInterrupt, in this block for :data:`_SIGNALS`.

    A signal that is ignored (``nohup``) stays so. Only the main thread may set handlers; elsewhere
    nothing changes.
    """
    before = {}
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            with contextlib.suppress(ValueError):
                before[number] = signal.signal(number, _leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise Leave
