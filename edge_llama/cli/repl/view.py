"""An answer on the screen while it is written.

Blocks that are finished go into the terminal's scrollback for good. Of the open one only the lines
that changed are written again, in one go and without clearing first, so that nothing flickers;
lines that have left the screen stay as they are.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol

from rich.cells import cell_len
from rich.text import Text

from .. import console
from ..untrusted import printable
from . import markdown

if TYPE_CHECKING:
    from rich.console import Console

#: Seconds between two drawings, at least; and how much longer than the last one took.
_INTERVAL, _REST = 0.06, 4.0
_WAITING = "\x1b[2m…\x1b[0m"


class View(Protocol):
    """Where the text of an answer goes."""

    def begin(self) -> None:
        """Show that an answer is coming."""
        ...

    def push(self, text: str) -> None:
        """Show more of the answer."""
        ...

    def end(self) -> None:
        """Show all of it; the next output begins on a line of its own."""
        ...


class PlainView:
    """The text as it comes; see :func:`~edge_llama.cli.console.write_untrusted`."""

    def __init__(self) -> None:
        self._last = "\n"

    def begin(self) -> None:
        """Show nothing yet."""

    def push(self, text: str) -> None:
        """Show more of the answer."""
        console.write_untrusted(text)
        self._last = text[-1:] or self._last

    def end(self) -> None:
        """End the line."""
        if self._last != "\n":
            console.write("\n")


class MarkdownView:
    """The text as Markdown, on a terminal that understands escape sequences."""

    def __init__(self, target: Console) -> None:
        self._console = target
        self._open = ""  # what is not in the scrollback for good
        self._drawn: list[str] = []
        self._width = target.width
        self._begun = False
        self._next = 0.0

    def begin(self) -> None:
        """Show that an answer is coming; its first words take the place of that."""
        self._write([_WAITING])

    def push(self, text: str) -> None:
        """Show more of the answer, now or with the next piece."""
        self._open += printable(text)
        if time.monotonic() >= self._next:
            self._draw()

    def end(self) -> None:
        """Show all of the answer."""
        self._draw()

    def _draw(self) -> None:
        started = time.monotonic()
        blocks = markdown.split(self._open)
        lines: list[str] = []
        final, rest = 0, 0
        complete = self._open.count("\n")
        for block in blocks:
            # A line that is not complete may still turn out to go on with the block before it.
            if block.start < complete:
                final, rest = len(lines), block.start
            rendered = markdown.render(block, self._console, self._console.width)
            if rendered and (self._begun or lines):
                lines.append("")
            lines += rendered
        self._write(lines)
        if final:
            self._open = "\n".join(self._open.split("\n")[rest:])
            self._drawn = lines[final:]
            self._begun = True
        now = time.monotonic()
        self._next = now + max(_INTERVAL, _REST * (now - started))

    def _write(self, lines: list[str]) -> None:
        """Put ``lines`` in the place of those that are drawn; the cursor stays below them."""
        width, height = self._console.size
        drawn = self._drawn
        same = 0
        if width == self._width:
            while same < min(len(drawn), len(lines)) and drawn[same] == lines[same]:
                same += 1
        rows = [self._rows(line, width) for line in drawn]
        while sum(rows[same:]) > height - 1:  # out of reach
            same += 1
        parts = []
        if up := sum(rows[same:]):
            parts.append(f"\x1b[{up}A")
        parts += [f"\r{line}\x1b[K\n" for line in lines[same:]]
        if len(drawn) > len(lines):
            parts.append("\x1b[J")
        self._drawn, self._width = lines, width
        console.write("".join(parts))

    def _rows(self, line: str, width: int) -> int:
        """Return how many rows a drawn line takes; terminals break lines when they get narrower."""
        if width >= self._width:
            return 1
        return max(1, -(-cell_len(Text.from_ansi(line).plain) // max(width, 1)))


def make_view(*, plain: bool) -> View:
    """Return a view for standard output; Markdown only where it can be drawn."""
    target = console.stdout
    # Not rich's own idea of a terminal: FORCE_COLOR makes a pipe one.
    if plain or not sys.stdout.isatty() or target.is_dumb_terminal or target.legacy_windows:
        return PlainView()
    return MarkdownView(target)
