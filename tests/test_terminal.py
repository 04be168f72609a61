"""``edge-llama chat`` in a real terminal (a pty): what a person sees and which keys work."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

import pytest
from terminals import CTRL_C, CTRL_D, ENTER, PROMPT, Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX"),
]


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal("chat", "--max-tokens", "300", cwd=tmp_path)
    yield terminal
    terminal.close()


def test_a_conversation(chat: Terminal) -> None:
    chat.wait_for(r"/help")
    chat.wait_for(PROMPT)
    chat.type(b"Say hello." + ENTER)
    chat.wait_for(r"\d+ tokens \| [\d.]+ tokens/s \| .* \| context \d+/4096")
    chat.wait_for(PROMPT)
    chat.type(b"And again." + ENTER)
    assert int(re.findall(r"(\d+) cached", chat.wait_for(r"\d+ cached"))[-1]) > 10
    chat.wait_for(r"context \d+/4096")
    chat.wait_for(PROMPT)
    chat.type(b"/nonsense" + ENTER)
    chat.wait_for("unknown command /nonsense")
    chat.wait_for(PROMPT)
    chat.type(b"/memory" + ENTER)
    chat.wait_for(r"whole process +\d+ MiB +\d+ MiB")
    chat.wait_for(PROMPT)
    chat.type(b"/clear" + ENTER)
    chat.wait_for("forgotten")
    chat.wait_for(PROMPT)
    chat.type(CTRL_D)
    assert chat.process.wait(30) == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(chat: Terminal) -> None:
    chat.wait_for(PROMPT)
    chat.type(b"Write a very long story about a dragon." + ENTER)
    chat.wait_for(r"\n\S+")  # the first words of the answer
    time.sleep(0.5)
    chat.type(CTRL_C)
    chat.wait_for(r"stopped\]")
    chat.wait_for(PROMPT)
    chat.type(CTRL_C)  # at the prompt: nothing to stop
    chat.wait_for("Ctrl-D or /bye leaves")
    chat.wait_for(PROMPT)
    chat.type(b"Say hello." + ENTER)
    chat.wait_for(r"tokens/s")
    chat.wait_for(PROMPT)
    chat.type(b"/bye" + ENTER)
    assert chat.process.wait(30) == 0


def test_ctrl_c_while_the_prompt_is_read(chat: Terminal) -> None:
    chat.wait_for(PROMPT)
    chat.type(b"word " * 700 + ENTER)
    time.sleep(1)
    chat.type(CTRL_C)
    chat.wait_for(r"(stopped|tokens/s)")
    chat.wait_for(PROMPT)
    chat.type(CTRL_D)
    assert chat.process.wait(30) == 0


def test_convert_shows_bytes_speed_and_time_left(real_checkpoint: Path, tmp_path: Path) -> None:
    slow = ("--type", "q2_k", "--threads", "1", "-o", "out/x.gguf")
    terminal = Terminal("convert", str(real_checkpoint), *slow, cwd=tmp_path)
    try:
        terminal.wait_for(r"hf -> q2_k .*\d/\d+\.\d MB \d+\.\d MB/s \d:\d\d:\d\d")
        terminal.type(CTRL_C)
        assert terminal.process.wait(60) == 130
    finally:
        terminal.close()
    assert list((tmp_path / "out").iterdir()) == []
