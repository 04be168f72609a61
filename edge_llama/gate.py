"""Keeps what native code uses until nobody is inside any more."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .errors import StateError

if TYPE_CHECKING:
    from types import TracebackType


class Gate:
    """Lets any number of threads in until it is closed; a context manager.

    Raises:
        StateError: it is closed.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._closed = False

    def __enter__(self) -> None:
        with self._changed:
            if self._closed:
                raise StateError("the model is closed", hint="Open it again with Model.open.")
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in any more, and wait for those who are inside."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._inside)
