"""Signals that end a command as Ctrl-C does, so that it can clean up."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: ``kill``, a closed terminal, and Windows' Ctrl-Break.
_SIGNALS = ("SIGTERM", "SIGHUP", "SIGBREAK")


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt in this block for :data:`_SIGNALS` too.

    A signal that is ignored (``nohup``) stays so. Only the main thread may set handlers; elsewhere
    nothing changes.
    """
    before = {}
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            with contextlib.suppress(ValueError):
                before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
