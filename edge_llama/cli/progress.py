"""Progress in bytes or steps, on standard error and on a terminal only."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from . import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from edge_llama_convert import Fetching

    #: Gets what is being done, bytes done, and bytes in all.
    ShowBytes: TypeAlias = Callable[[str, int, int], None]

    #: Gets what is being done, steps done, and steps in all.
    ShowSteps: TypeAlias = Callable[[str, int, int], None]


@contextlib.contextmanager
def byte_progress() -> Iterator[ShowBytes]:
    """Yield what shows a bar; speed and time left are of what goes by the same name."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console.stderr,
        transient=True,
        disable=not console.stderr.is_terminal,  # it would leave an empty line
    )
    with bar:
        task = bar.add_task("", total=None, visible=False)

        def show(name: str, done: int, total: int) -> None:
            if bar.tasks[0].description != name:
                bar.reset(task, description=name, completed=done, total=total, visible=True)
            bar.update(task, completed=done)

        yield show


@contextlib.contextmanager
def step_progress(name: str) -> Iterator[ShowSteps]:
    """Yield what shows a bar with the steps done, and the time that is left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console.stderr,
        transient=True,
        disable=not console.stderr.is_terminal,
    )
    with bar:
        task = bar.add_task(name, total=None)

        def show(name: str, done: int, total: int) -> None:
            bar.update(task, description=name, completed=done, total=total)

        yield show


def fetching(show: ShowBytes) -> Callable[[Fetching], None]:
    """Return what shows how far a model from a hub is."""

    def advance(step: Fetching) -> None:
        show(f"{step.action} {step.file}", step.done, step.total)

    return advance
