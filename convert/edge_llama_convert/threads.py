"""Threads that Ctrl-C cannot leave behind."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

#: What ends a command; Windows has no masks, and its Ctrl-C comes in a thread of its own.
_SIGNALS = {"SIGINT", "SIGTERM", "SIGHUP"}


def start(thread: threading.Thread) -> None:
    """Start ``thread``, and only then let a signal's exception come.

    Inside ``Thread.start`` it would leave a thread that runs, and that nobody can wait for.
    """
    if not hasattr(signal, "pthread_sigmask"):
        thread.start()
        return
    numbers = {getattr(signal, name) for name in _SIGNALS}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def join(thread: threading.Thread) -> None:
    """Wait until ``thread`` has ended, if it was started."""
    if thread.ident is not None:
        thread.join()
