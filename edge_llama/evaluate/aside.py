"""Work that Ctrl-C ends at once, although it is inside of llama.cpp."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from ..closing import Closing

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..native import NativeContext

_Result = TypeVar("_Result")


class Aside(Closing):
    """One thread that computes while the caller waits; use as a context manager.

    Python notices a signal only when its main thread is not inside of C. It is always the same
    thread, because OpenMP gives every caller a team of threads of its own.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edge-llama-evaluate")

    def close(self) -> None:
        """Wait for what runs, and end the thread."""
        self._pool.shutdown()

    def run(self, work: Callable[[], _Result], context: NativeContext | None = None) -> _Result:
        """Return what ``work`` does; an interrupt aborts what ``context`` is computing."""
        future = self._pool.submit(work)
        try:
            return future.result()
        except BaseException:
            if context is not None:
                context.request_abort()
            self._pool.shutdown(cancel_futures=True)
            raise
