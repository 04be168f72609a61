"""``edge-llama chat`` in a real terminal (a pty): what a person sees and which keys work."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX"),
]

PROMPT = r"[\r\n]>"
CTRL_C, CTRL_D, ENTER = b"\x03", b"\x04", b"\r"


class Terminal:
    """A process on a pseudo-terminal, and what it has shown so far."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge_llama", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env={**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
            start_new_session=True,
            # Its controlling terminal, so that Ctrl-C becomes a signal. No threads run here yet.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        os.close(slave)
        self.shown = ""
        self._seen = 0

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def wait_for(self, pattern: str, timeout: float = 90) -> str:
        """Wait until something new matches; returns the new text up to there."""
        deadline = time.monotonic() + timeout
        while True:
            if match := re.search(pattern, self.shown[self._seen :]):
                text = self.shown[self._seen : self._seen + match.end()]
                self._seen += match.end()
                return text
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} did not appear in {self.shown[self._seen :]!r}"
            if select.select([self.master], [], [], min(left, 1))[0]:
                try:
                    data = os.read(self.master, 65536)
                except OSError as error:
                    raise AssertionError(f"it ended: {self.shown!r}") from error
                self.shown += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", data.decode(errors="replace"))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


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
