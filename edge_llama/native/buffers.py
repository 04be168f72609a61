"""What llama.cpp says it allocated: sizes that no function returns to C, only its log tells."""

from __future__ import annotations

import contextlib
import re
import threading
from typing import TYPE_CHECKING

from ..memory import Buffer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..memory.receipt import BufferKind

#: "load_tensors:   CPU_Mapped model buffer size =    92.10 MiB" and the like.
_LINE = re.compile(r"(\S+) +(model|KV|RS|compute|output) buffer size = +([\d.]+) MiB")

_KINDS: dict[str, BufferKind] = {
    "model": "weights",
    "KV": "kv_cache",
    "RS": "kv_cache",  # the state of recurrent layers takes its place
    "compute": "compute",
    "output": "output",
}

#: llama.cpp logs in the thread that called it, so models that load at once do not mix.
_thread = threading.local()


@contextlib.contextmanager
def recorded() -> Iterator[list[Buffer]]:
    """Collect the buffers that this thread's calls to llama.cpp allocate."""
    found: list[Buffer] = []
    _thread.found = found
    try:
        yield found
    finally:
        _thread.found = None


def record(line: str) -> None:
    """Take a line of the log; called for each, so it must be cheap."""
    found: list[Buffer] | None = getattr(_thread, "found", None)
    if found is None or " buffer size = " not in line:
        return
    match = _LINE.search(line)
    if match and float(match[3]) > 0:
        found.append(Buffer(match[1], _KINDS[match[2]], round(float(match[3]) * 2**20)))
