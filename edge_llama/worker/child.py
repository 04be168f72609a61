"""The child process: takes over its standard streams, dies with its parent, serves one model."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
from pathlib import Path

from .frames import MAX_FROM_PARENT, FrameReader
from .log import PipeHandler

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until the parent closes the pipe or is gone; never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _end_with_parent(int(os.environ.pop("EDGE_LLAMA_PARENT", "0")))
    incoming, outgoing = _take_pipes()
    logger = logging.getLogger("edge_llama")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(PipeHandler(2))
    from .server import Server

    Server(FrameReader(incoming, MAX_FROM_PARENT), outgoing).run()
    # Whatever runs, nobody waits for it; and native code may hold on for long.
    os._exit(0)


def _take_pipes() -> tuple[int, int]:
    """Keep the pipes for frames; whoever prints, prints into the log."""
    incoming, outgoing = os.dup(0), os.dup(1)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return incoming, outgoing


def _end_with_parent(parent: int) -> None:
    """Let Linux end this process with its parent, and be its first victim when memory runs out.

    Elsewhere the end of the pipe does it, as soon as Python gets to run.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent and os.getppid() != parent:  # it was gone before
        os._exit(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
