"""The only place that prints. Results go to standard output, everything else to standard error."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from .untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

#: For people: tables, progress, statistics, errors.
stderr = Console(stderr=True, highlight=False)
#: For tables that are the result.
stdout = Console(highlight=False)


def is_verbose() -> bool:
    """Whether --verbose was given: the log is on."""
    return logging.getLogger().isEnabledFor(logging.DEBUG)


def write(text: str) -> None:
    """Write part of a result to standard output, at once, exactly as it is."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_untrusted(text: str) -> None:
    """Write what a model wrote: as it is into a pipe or a file, what can be printed on a terminal.

    A control character could steer the terminal; whoever reads a pipe asked for all of the text.
    """
    write(printable(text) if sys.stdout.isatty() else text)


def write_json(value: Any) -> None:
    """Write one JSON document as a result; dataclasses as objects, paths as texts."""
    write(json.dumps(value, ensure_ascii=False, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def write_json_line(value: Any) -> None:
    """Write one JSON document as a line of a result."""
    write(json.dumps(value, ensure_ascii=False) + "\n")


def write_table(table: RenderableType) -> None:
    """Write a table as a result, without the spaces that would fill its lines."""
    with stdout.capture() as capture:
        stdout.print(table)
    write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


def show(renderable: RenderableType) -> None:
    """Show something for people on standard error."""
    stderr.print(renderable)


def note(text: str) -> None:
    """Show a line of lesser importance on standard error."""
    stderr.print(Text(printable(text), style="dim"), soft_wrap=not stderr.is_terminal)


@contextlib.contextmanager
def status(text: str) -> Iterator[None]:
    """Show that something takes a moment; on a terminal only."""
    if not stderr.is_terminal:  # nobody would see it, and its modules cost time and memory
        yield
        return
    with stderr.status(Text(text, style="dim")):
        yield


def error(message: str, hint: str = "") -> None:
    """Show an error in one line: what is wrong, and what to do."""
    line = Text.assemble(("error: ", "bold red"), " ".join(printable(message).split()))
    if hint:
        line.append(
            ("" if message.endswith(".") else ".") + " " + " ".join(printable(hint).split())
        )
    stderr.print(line, soft_wrap=True)


def confirm(question: str) -> bool:
    """Ask for a yes on the terminal; everything else, and the end of input, is a no."""
    stderr.print(Text(f"{question} [y/N] "), end="", soft_wrap=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def prepare_streams() -> None:
    """Make output UTF-8 where the terminal's own encoding could not carry a model's text."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace", **({} if _is_utf8(stream) else {"encoding": "utf-8"}))


def _is_utf8(stream: Any) -> bool:
    return (stream.encoding or "").lower().replace("-", "") == "utf8"


def is_broken_pipe(failure: OSError) -> bool:
    """Whether the reader of our output went away, as ``| head`` does."""
    return isinstance(failure, BrokenPipeError) or failure.errno == errno.EPIPE


def drop_stdout() -> None:
    """Point standard output nowhere, so that the interpreter's last flush cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
