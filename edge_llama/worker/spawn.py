"""Begins a child process with clean pipes, and says how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from ..errors import one_line

#: The argument by which a frozen app (PyInstaller and the like), which can only start itself,
#: knows that it is to be a worker.
FROZEN_FLAG = "--edge-llama-worker"

_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from edge_llama.worker.child import main; main()"
)


def command() -> list[str]:
    """Return the command line of a worker.

    It looks for modules where this process does, and nowhere else (-I): not in the current folder,
    which may be full of strangers' files.
    """
    if getattr(sys, "frozen", False):
        return [sys.executable, FROZEN_FLAG]
    places = [str(Path(place).absolute()) for place in sys.path]
    return [sys.executable, "-I", "-c", _CODE, json.dumps(places)]


def freeze_support() -> None:
    """Be the worker, if that is what this process was started for; else do nothing.

    A frozen app calls it first in its main module, before it makes a window.
    """
    if sys.argv[1:2] == [FROZEN_FLAG]:
        from .child import main

        main()


def start() -> subprocess.Popen[bytes]:
    """Start a child; OSError when the system refuses.

    Linux ends a child with the *thread* that started it (PR_SET_PDEATHSIG, which the child sets):
    call this in one that stays.
    """
    environment = {
        **os.environ,
        "EDGE_LLAMA_PARENT": str(os.getpid()),
        "GGML_NO_BACKTRACE": "1",  # ggml would start a debugger to print one
    }
    return subprocess.Popen(  # noqa: S603 - our own interpreter and code
        command(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=environment,
        # A window's app has no console, and its child should not open one.
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def describe_end(exit_code: int, log: tuple[str, ...]) -> str:
    """Say in words how a child ended; ``log`` are the last lines it wrote past the logger."""
    if exit_code >= 0:
        how = f"it ended with exit code {exit_code}"
    else:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f"signal {-exit_code}"
        how = f"it was ended by {name}"
        if name == "SIGKILL":
            how += ", as the system does when memory runs out"
    return how + (f": {one_line(log[-1])}" if log else "")
