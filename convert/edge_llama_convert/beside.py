"""One call that runs in a thread of its own, beside other work."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .threads import join, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Beside:
    """Runs ``call``, or nothing, while the block runs; use as a context manager.

    Leaving the block waits for it. What it raises comes out of :meth:`poll` and :meth:`wait`.
    """

    def __init__(self, call: Callable[[], object] | None) -> None:
        self._call = call
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Beside:
        try:
            start(self._thread)
        except BaseException:
            join(self._thread)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        join(self._thread)

    def poll(self) -> None:
        """Raise what the call has raised, if it has failed already."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Wait for the call; raise what it raised."""
        self._thread.join()
        self.poll()

    def _run(self) -> None:
        try:
            if self._call is not None:
                self._call()
        except BaseException as error:  # noqa: BLE001 - carried to the block's thread
            self._error = error
