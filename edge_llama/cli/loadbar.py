"""A progress bar for loads that take long, and nothing at all for the others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import console

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

#: Seconds after which a load counts as long.
PATIENCE = 0.5


class LoadBar:
    """Shows how far a load is, on a terminal; call it with the fraction that is done."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._started = time.perf_counter()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __call__(self, done: float) -> None:
        """Show the fraction that is done, once the load has taken long."""
        if self._bar is None:
            if time.perf_counter() - self._started < PATIENCE or not console.stderr.is_terminal:
                return
            from rich.progress import Progress

            self._bar = Progress(console=console.stderr, transient=True)
            self._task = self._bar.add_task(f"loading {self._name}", total=1.0)
            self._bar.start()
        if self._task is not None:
            self._bar.update(self._task, completed=done)

    def __enter__(self) -> LoadBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
