"""Signals that end a command as Ctrl-C does, so that it can clean up."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

#: ``kill``, a closed terminal, and Windows' Ctrl-Break.
_SIGNALS = ("SIGTERM", "SIGHUP", "SIGBREAK")

#: Seconds after which an interrupt that C has swallowed comes again.
_LATER = 0.02


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


def keep_interrupts() -> None:
    """Make Ctrl-C wait when it comes in a callback of C, which Python would let it vanish in.

    llama.cpp logs and tells its progress through such callbacks while it loads. It comes again
    until it reaches Python proper.
    """
    before = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            _interrupt_later()
        else:
            before(unraisable)

    sys.unraisablehook = hook


def _interrupt_later() -> None:
    """Send it from another thread: now it would end the hook, and vanish again."""
    try:
        timer = threading.Timer(_LATER, _interrupt)
        timer.daemon = True
        timer.start()
    except KeyboardInterrupt:  # pressed again, just now
        _interrupt_later()


def _interrupt() -> None:
    """Send Ctrl-C's signal to the main thread, which wakes it if it waits."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)
