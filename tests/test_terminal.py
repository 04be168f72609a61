"""``edge-llama chat`` in a real terminal (a pty): what a person sees and which keys work."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import time
from typing import TYPE_CHECKING

import pytest
from terminals import (
    ALT_ENTER,
    CTRL_C,
    CTRL_D,
    CTRL_J,
    ENTER,
    PASTE_BEGIN,
    PASTE_END,
    TAB,
    UP,
    Terminal,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import RunCLI

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX"),
]

#: The status line below the input: it is ready, before and after an answer.
READY, ANSWERED = r"context \d+/4096 \| ", r"context [1-9]\d*/4096 \| [\d.]+ tokens/s"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Start a chat that answers briefly and always alike."""
    terminals = []

    def start(*arguments: str, tokens: int = 8, columns: int = 100) -> Terminal:
        sampling = ("--max-tokens", str(tokens), "--temp", "0")
        terminals.append(Terminal("chat", *sampling, *arguments, cwd=tmp_path, columns=columns))
        terminals[-1].wait_for(READY)
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


def ask(terminal: Terminal, text: bytes, until: str = ANSWERED) -> str:
    terminal.type(text + ENTER)
    return terminal.wait_for(until)


def test_a_conversation(start: Callable[..., Terminal], tmp_path: Path) -> None:
    chat = start(columns=80)
    ask(chat, b"Say hello.")
    ask(chat, b"/nonsense", "unknown command /nonsense")
    ask(chat, b"/memory", r"whole process +\d+ MiB +\d+ MiB")
    ask(chat, b"/help", "begins with two")
    assert max(len(line) for line in chat.screen.splitlines()) <= 80
    ask(chat, b"/set top_k 7", "top-k = 7")
    ask(chat, b"/set top_k x", "error: top_k = 'x' is not possible. Use 0 or more")
    ask(chat, b"/system Talk like a pirate.", r"\(system prompt: Talk like a pirate.\)")
    (tmp_path / "notes.txt").write_text("The parrot is called Polly.\n")
    ask(chat, b"/file no", "error: no: no such file")
    ask(chat, b"/file notes.txt", r"\d+ tokens go with your next message")
    ask(chat, b"What is the parrot called?")
    ask(chat, b"/save birds", "called birds")
    ask(chat, b"/save birds.md", "written to birds.md")
    ask(chat, b"/retry")
    ask(chat, b"/stats", r"prompt \d+ new \+ \d+ cached")
    ask(chat, b"/persona save pirate", r"kept in\s+.*pirate.json")
    ask(chat, b"/clear", r"another|1 is kept")
    ask(chat, b"/history parrot", r"notes.txt: ")
    ask(chat, b"/load birds", r"conversation 1: birds")
    ask(chat, b"/bye", "")
    assert chat.wait() == 0
    exported = (tmp_path / "birds.md").read_text()
    assert exported.startswith("# birds\n")
    assert "\n> Talk like a pirate.\n" in exported
    assert "The parrot is called Polly.\n```\n\nWhat is the parrot called?\n" in exported
    persona = json.loads((tmp_path / "home" / "personas" / "pirate.json").read_text())
    assert persona["system"] == "Talk like a pirate."
    assert persona["sampling"] == {"temperature": 0.0, "top_k": 7, "max_tokens": 8}


def test_keys(start: Callable[..., Terminal]) -> None:
    chat = start("--plain")
    chat.type(b"one" + ALT_ENTER + b"two" + CTRL_J + b"three\\" + ENTER + b"four")
    chat.wait_for("four")
    ask(chat, b"")
    ask(chat, b"/undo", r"taken back: one two three four")
    chat.type(PASTE_BEGIN + b"five\nsix" + PASTE_END)
    chat.wait_for("six")
    ask(chat, b"")
    ask(chat, b"/undo", r"taken back: five six")
    chat.type(b"/und" + TAB)
    chat.wait_for("/undo")
    chat.type(CTRL_C)  # clears the line
    chat.type(b"//slash" + ENTER)
    chat.wait_for(ANSWERED)
    chat.type(b"/edit" + ENTER)
    chat.wait_for("/slash")
    chat.type(b" and more" + ENTER)
    chat.wait_for(ANSWERED)
    ask(chat, b"/undo", r"taken back: /slash and more")
    ask(chat, b"/undo", "nothing to take back")
    ask(chat, b"Say `hi`.")
    answer = ask(chat, b"/copy", "characters copied")
    assert "error" not in answer
    sequence = re.findall(r"\x1b\]52;c;([\w+/=]+)\x07", chat.raw)[-1]
    assert base64.b64decode(sequence).decode() in chat.screen
    chat.type(CTRL_D)
    assert chat.wait() == 0


def test_what_is_typed_ahead_waits_and_does_not_show_in_the_answer(
    start: Callable[..., Terminal],
) -> None:
    chat = start("--plain", tokens=40)
    chat.type(b"Count to ten." + ENTER)
    chat.wait_for("Count to ten.(?s:.*)\n\\w")
    chat.type(b"/system typed ahead" + ENTER)
    chat.wait_for(r"system prompt: typed ahead")
    assert re.findall(".*/system typed ahead", chat.screen) == ["> /system typed ahead"]


def test_ctrl_c_stops_the_answer_and_a_second_leaves(
    start: Callable[..., Terminal], run_cli: RunCLI
) -> None:
    chat = start(tokens=600)
    chat.type(b"Write a very long story about a dragon." + ENTER)
    chat.wait_for(r"\n\r?\w\w+ \w+")  # the first words of the answer
    chat.type(CTRL_C)
    chat.wait_for(r"\(stopped;")
    chat.wait_for(ANSWERED)
    ask(chat, b"/set max-tokens 5", "max-tokens = 5")
    ask(chat, b"Say hello.")
    chat.type(CTRL_C)  # nothing to stop
    chat.wait_for("Ctrl-C again, Ctrl-D or /bye leaves")
    chat.type(CTRL_C)
    assert chat.wait() == 130
    kept = json.loads(run_cli("history", "export", "--json").stdout)["messages"]
    statuses = [one["status"] for one in kept if one["role"] == "assistant"]
    assert statuses == ["stopped", "complete"]


def test_ctrl_c_while_the_prompt_is_read(start: Callable[..., Terminal]) -> None:
    chat = start()
    chat.type(PASTE_BEGIN + b"word " * 2000 + PASTE_END)
    chat.type(ENTER)
    chat.wait_for("…")
    chat.type(CTRL_C)
    chat.wait_for(r"\(stopped;")
    chat.wait_for(READY)
    ask(chat, b"/stats", r"\n0 tokens")
    chat.type(CTRL_C)
    chat.wait_for("Ctrl-C again")
    ask(chat, b"/edit", "word word word")
    chat.type(CTRL_C)  # clears the line that was to be edited
    chat.type(CTRL_D)
    chat.wait_for("left as it was")
    chat.type(CTRL_D)
    assert chat.wait() == 0


def test_a_chat_that_is_killed_in_an_answer_goes_on(
    start: Callable[..., Terminal], run_cli: RunCLI
) -> None:
    chat = start(tokens=2000)
    chat.type(b"Write a very long story about a dragon." + ENTER)
    chat.wait_for(r"\n\r?\w\w+ \w+")
    time.sleep(2)
    chat.process.send_signal(signal.SIGKILL)
    assert chat.wait() == -9
    kept = json.loads(run_cli("history", "export", "last", "--json").stdout)["messages"]
    assert kept[0]["content"] == "Write a very long story about a dragon."
    assert kept[1]["status"] == "unfinished"
    assert len(kept[1]["content"].split()) > 3
    again = start("--resume")
    again.shown.index("conversation 1: Write a very long story about a dragon.")
    assert " ".join(kept[1]["content"].split()[:3]) in again.screen
    assert "cut off there; /retry asks again" in again.screen
    again.type(UP)
    again.wait_for("Write a very long story")
    again.type(CTRL_C)
    ask(again, b"Say hello.")
    again.type(CTRL_D)
    assert again.wait() == 0
    listed = json.loads(run_cli("history", "list", "--json").stdout)
    assert [one["id"] for one in listed] == [1]


def test_a_closed_terminal_ends_it_and_keeps_what_was_said(
    start: Callable[..., Terminal], run_cli: RunCLI
) -> None:
    chat = start(tokens=2000)
    chat.type(b"Write a very long story about a dragon." + ENTER)
    chat.wait_for(r"\n\r?\w\w+ \w+")
    chat.process.send_signal(signal.SIGHUP)
    assert chat.wait() == 130
    kept = json.loads(run_cli("history", "export", "--json").stdout)["messages"]
    assert kept[1]["status"] == "unfinished"
    assert kept[1]["content"]


def test_kill_at_the_prompt_leaves_the_terminal_as_it_was(
    start: Callable[..., Terminal],
) -> None:
    import termios

    chat = start("--no-history")
    chat.process.terminate()
    assert chat.wait() == 130
    local = termios.tcgetattr(chat.master)[3]
    assert local & termios.ECHO
    assert local & termios.ICANON
    assert "Traceback" not in chat.shown


def test_a_narrow_terminal_without_colours(tmp_path: Path) -> None:
    options = ("--max-tokens", "30", "--temp", "0")
    chat = Terminal(
        "chat", *options, cwd=tmp_path, columns=24, lines=12, env={"NO_COLOR": "1", "TERM": "xterm"}
    )
    try:
        chat.wait_for(r"context 0/4096")
        ask(chat, b"Write two words in **bold**.", r"context [1-9]\d*/4096")
        chat.type(CTRL_D)
        assert chat.wait() == 0
    finally:
        chat.close()
    colours = re.findall(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|4[0-7]|38;)[\d;]*m", chat.raw)
    assert colours == []


def test_answers_into_a_file_while_talking_in_the_terminal(tmp_path: Path) -> None:
    chat = Terminal(
        "chat", "--max-tokens", "5", "--temp", "0", cwd=tmp_path, output=tmp_path / "answers"
    )
    try:
        chat.wait_for(READY)
        ask(chat, b"Say hello.")
        chat.type(CTRL_D)
        assert chat.wait() == 0
    finally:
        chat.close()
    answers = (tmp_path / "answers").read_text()
    assert len(answers.splitlines()) == 1
    assert "\x1b" not in answers
    assert answers.strip()


def test_convert_shows_bytes_speed_and_time_left(real_checkpoint: Path, tmp_path: Path) -> None:
    slow = ("--type", "q2_k", "--threads", "1", "-o", "out/x.gguf")
    terminal = Terminal("convert", str(real_checkpoint), *slow, cwd=tmp_path, columns=120)
    try:
        terminal.wait_for(r"hf -> q2_k .*\d/\d+\.\d MB \d+\.\d MB/s \d:\d\d:\d\d")
        terminal.type(CTRL_C)
        assert terminal.process.wait(60) == 130
    finally:
        terminal.close()
    assert list((tmp_path / "out").iterdir()) == []
