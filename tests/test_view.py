"""How an answer is drawn while it streams, on an emulated terminal that is read cell by cell."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pyte
import pytest
from rich.console import Console

from edge_llama.cli import console
from edge_llama.cli.repl.view import MarkdownView, PlainView, make_view

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = """\
# Moons

Some **bold** words, `code`, a [link](http://example.org/x) and <b>html</b>.
A second line.

1. One
2. Two

   More of two

3. Three

```python
def f(x):
    return x + 1
```

| a | b |
|---|---|
| 1 | 2 |

> quoted

[1]: http://example.org
"""
DRAWN = """\
Moons

Some bold words, code, a link
(http://example.org/x) and
<b>html</b>.
A second line.

 1 One
 2 Two
   More of two
 3 Three

  def f(x):
      return x + 1

 a  b
 ────
 1  2

▌ quoted

[1]: http://example.org"""


class Screen:
    """A terminal in memory: what was written to it, and what stands on it and above it."""

    def __init__(self, width: int, height: int) -> None:
        self.writes: list[str] = []
        self.screen = pyte.HistoryScreen(width, height, history=10_000)
        self.screen.set_mode(pyte.modes.LNM)
        self.stream = pyte.Stream(self.screen)
        self.target = Console(
            force_terminal=True, width=width, height=height, color_system="256", no_color=False
        )

    def write(self, text: str) -> None:
        self.writes.append(text)
        self.stream.feed(text)

    @property
    def text(self) -> str:
        rows = self.screen.history.top
        past = ["".join(row[x].data for x in range(self.screen.columns)) for row in rows]
        return "\n".join(line.rstrip() for line in [*past, *self.screen.display]).rstrip()


@pytest.fixture
def screens(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Screen]]:
    class Here(Screen):
        def __init__(self, width: int, height: int) -> None:
            super().__init__(width, height)
            monkeypatch.setattr(console, "write", self.write)

    return Here  # type: ignore[return-value]


def stream(view: MarkdownView, text: str, seed: int) -> None:
    """Push a text in pieces of random lengths, each of which is drawn."""
    pieces = random.Random(seed)
    while text:
        length = pieces.randint(1, 7)
        view._next = 0
        view.push(text[:length])
        text = text[length:]
    view.end()


@pytest.mark.parametrize("height", [40, 12, 6])
def test_whatever_the_pieces_the_result_is_the_same(screens: type[Screen], height: int) -> None:
    for seed in range(3):
        screen = screens(30, height)
        stream(MarkdownView(screen.target), TEXT, seed)
        assert screen.text == DRAWN


def test_nothing_is_cleared_and_finished_blocks_are_not_drawn_again(screens: type[Screen]) -> None:
    screen = screens(60, 24)
    stream(MarkdownView(screen.target), "The first paragraph.\n\n" + "and more words " * 60, 1)
    written = "".join(screen.writes)
    assert "\x1b[2J" not in written
    assert "\x1b[H" not in written
    # One write for each drawing, and each of at most the two lines that a piece can change.
    later = [text for text in screen.writes if "more" in text]
    assert len(later) > 50
    assert max(text.count("\n") for text in later) <= 3
    assert all("first" not in text for text in later[3:])


def test_a_block_that_is_taller_than_the_terminal(screens: type[Screen]) -> None:
    code = "\n".join(f"x{i} = {i}" for i in range(50))
    screen = screens(40, 10)
    stream(MarkdownView(screen.target), f"Intro\n\n```python\n{code}\n```\n\nThe end", 2)
    lines = screen.text.split("\n")
    assert [line.strip() for line in lines if " = " in line] == code.split("\n")
    assert (lines[0], lines[-1]) == ("Intro", "The end")


def test_a_terminal_that_changes_its_width(screens: type[Screen]) -> None:
    screen = screens(60, 20)
    view = MarkdownView(screen.target)
    stream(view, "Some words that fill more than one line of a terminal of this width. ", 1)
    screen.target.width = 70
    view._next = 0
    view.push("And the last.")
    assert " ".join(screen.text.split()).count("Some words") == 1
    assert screen.text.endswith("And the last.")


def test_what_a_model_writes_cannot_steer_the_terminal(
    screens: type[Screen], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = "a\x1b]0;title\x07b\x1b[2Jc\x9b31md\x08\x7f\r\ne\tf"
    screen = screens(40, 10)
    stream(MarkdownView(screen.target), attack, 1)
    written = "".join(screen.writes)
    assert not re.search(r"[\x07\x08\x7f-\x9f]|\x1b\]|\x1b\[2J", written)
    assert screen.text == "a]0;titleb[2Jc31md\ne       f"
    monkeypatch.undo()
    PlainView().push(attack)
    assert capsys.readouterr().out == attack  # no terminal: all of it, as it is
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    PlainView().push(attack)
    assert capsys.readouterr().out == "a]0;titleb[2Jc31md\ne\tf"


@pytest.mark.parametrize(
    "text",
    [
        "> " * 200 + "deep",
        "- " * 150 + "x",
        "*" * 3000,
        "[" * 2000 + "x" + "](" * 100,
        "| a |\n|---|\n" + "| b " * 100,
        "```nosuchlanguage\nx\n```",
        "\u202e\u0301" * 50 + "𝕏漢字👩‍👩‍👧" * 30,
        "<script>alert(1)</script>\n<kbd>x",
        "# " + "long " * 50,
    ],
)
@pytest.mark.parametrize("width", [80, 11])
def test_any_text_is_shown(screens: type[Screen], text: str, width: int) -> None:
    screen = screens(width, 20)
    view = MarkdownView(screen.target)
    view.push(text[: len(text) // 2])
    view._next = 0
    view.push(text[len(text) // 2 :])
    view.end()
    assert screen.text.strip()
    if text.startswith("<"):
        assert "<script>alert(1)</script>" in screen.text.replace("\n", "")


def test_an_answer_without_a_word_leaves_nothing(screens: type[Screen]) -> None:
    screen = screens(40, 10)
    view = MarkdownView(screen.target)
    view.begin()
    assert screen.text == "…"  # until there is something to show
    view.end()
    assert screen.text == ""


def test_plain_where_markdown_cannot_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(force_terminal=True)  # as FORCE_COLOR does
    monkeypatch.setattr(console, "stdout", terminal)
    assert isinstance(make_view(plain=False), PlainView)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert isinstance(make_view(plain=False), MarkdownView)
    assert isinstance(make_view(plain=True), PlainView)
    monkeypatch.setattr(terminal, "legacy_windows", True)
    assert isinstance(make_view(plain=False), PlainView)
    monkeypatch.setattr(terminal, "legacy_windows", False)
    monkeypatch.setattr(terminal, "_environ", {"TERM": "dumb"})
    assert isinstance(make_view(plain=False), PlainView)
