"""The pictures in the README: real sessions on a pseudo-terminal, as SVG. POSIX only.

    python benchmarks/screens.py                  # writes docs/images/*.svg

The embedded model answers, greedily, so that the pictures change only when the program does.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.style import Style
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from terminals import CTRL_D, ENTER, Terminal

if TYPE_CHECKING:
    from pyte.screens import Char

IMAGES = Path(__file__).parent.parent / "docs" / "images"
COLUMNS, LINES = 96, 26
READY, ANSWERED = r"context 0/\d+ \| ", r"context [1-9]\d*/\d+ \| [\d.]+ tokens/s"


def style(cell: Char) -> Style:
    """Return the style of a cell in rich's names."""

    def color(name: str) -> str | None:
        if name == "default":
            return None
        if re.fullmatch("[0-9a-f]{6}", name):
            return f"#{name}"
        name = name.replace("brown", "yellow")
        return re.sub("^bright", "bright_", name)

    return Style(
        color=color(cell.fg),
        bgcolor=color(cell.bg),
        bold=cell.bold,
        italic=cell.italics,
        underline=cell.underscore,
        reverse=cell.reverse,
    )


def picture(terminal: Terminal, title: str) -> str:
    """Return what is on the screen as SVG, without empty lines at its end."""
    screen = terminal.emulator
    rows = [[screen.buffer[y][x] for x in range(screen.columns)] for y in range(screen.lines)]
    while rows and not "".join(cell.data for cell in rows[-1]).strip():
        rows.pop()
    console = Console(record=True, file=io.StringIO(), width=screen.columns, color_system="256")
    for row in rows:
        line = Text.assemble(*((cell.data, style(cell)) for cell in row))
        console.print(line, soft_wrap=True)
    return console.export_svg(title=title, unique_id=title.rsplit(maxsplit=1)[-1])


def chat(home: Path) -> str:
    """Show a conversation."""
    stop = ("--stop", "\\n\\nAlternatively", "--stop", "\\n\\nThis function")
    terminal = Terminal("chat", "--temp", "0", *stop, cwd=home, columns=COLUMNS, lines=LINES)
    terminal.wait_for(READY)
    for question in (
        b"Give me three tips for a good night's sleep.",
        b"Write a Python function that adds two numbers.",
    ):
        terminal.type(question + ENTER)
        terminal.wait_for(ANSWERED)
    shown = picture(terminal, "edge-llama chat")
    terminal.type(CTRL_D)
    terminal.wait()
    terminal.close()
    return shown


def history(home: Path) -> str:
    """Show what was kept of it."""
    script = (
        "for words in history 'history search python' 'chat --resume'; do "
        'echo "$ edge-llama $words"; $0 -m edge_llama $words; done'
    )
    command = ("/bin/sh", "-c", script, sys.executable)
    terminal = Terminal(command=command, cwd=home, columns=COLUMNS, lines=LINES + 4)
    terminal.wait_for(READY)
    shown = picture(terminal, "edge-llama history")
    terminal.type(CTRL_D)
    terminal.wait()
    terminal.close()
    return shown


def main() -> None:
    """Write the pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, make in (("chat", chat), ("history", history)):
            path = IMAGES / f"{name}.svg"
            path.write_text(make(Path(folder)), encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
