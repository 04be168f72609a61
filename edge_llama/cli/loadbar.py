"""A progress bar for loads that take long, and nothing at all for the others."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from . import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress, TaskID

#: Seconds after which a load counts as long.
PATIENCE = 0.5


@contextlib.contextmanager
def load_bar(name: str) -> Iterator[Callable[[float], None]]:
    """Yield what shows the fraction that is loaded, on a terminal, once the load has taken long."""
    started = time.perf_counter()
    bar: Progress | None = None
    task: TaskID | None = None

    def show(done: float) -> None:
        nonlocal bar, task
        if bar is None:
            if time.perf_counter() - started < PATIENCE or not console.stderr.is_terminal:
                return
            from rich.progress import Progress

            bar = Progress(console=console.stderr, transient=True)
            task = bar.add_task(f"loading {name}", total=1.0)
            bar.start()
        if task is not None:
            bar.update(task, completed=done)

    try:
        yield show
    finally:
        if bar is not None:
            bar.stop()
