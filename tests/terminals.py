"""A process on a pseudo-terminal: what is typed, what it shows, and the screen a person sees."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pyte

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CTRL_C, CTRL_D, CTRL_J, ENTER, TAB, UP = b"\x03", b"\x04", b"\n", b"\r", b"\t", b"\x1b[A"
ALT_ENTER = b"\x1b\r"
PASTE_BEGIN, PASTE_END = b"\x1b[200~", b"\x1b[201~"
_CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b\][^\x07]*\x07")


class _Screen(pyte.HistoryScreen):
    """A screen that answers what a program asks its terminal, e.g. where the cursor is."""

    def __init__(self, columns: int, lines: int, answer: Callable[[bytes], None]) -> None:
        super().__init__(columns, lines, history=10_000)
        self._answer = answer

    def write_process_input(self, data: str) -> None:
        self._answer(data.encode())


class Terminal:
    """A process on a pseudo-terminal, and what it has shown so far."""

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        columns: int = 100,
        lines: int = 40,
        env: dict[str, str] | None = None,
        output: Path | None = None,
        command: tuple[str, ...] = (sys.executable, "-m", "edge_llama"),
    ) -> None:
        """Start edge-llama; its standard output is the terminal too, unless ``output`` is given."""
        import fcntl
        import pty
        import struct
        import termios

        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        stdout = slave if output is None else os.open(output, os.O_WRONLY | os.O_CREAT)
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=slave,
            stdout=stdout,
            stderr=slave,
            cwd=cwd,
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "EDGE_LLAMA_HOME": str(cwd / "home"),
                **(env or {}),
            },
            start_new_session=True,
            # Its controlling terminal, so that Ctrl-C becomes a signal. No threads run here yet.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        os.close(slave)
        if stdout != slave:
            os.close(stdout)
        self.shown = self.raw = ""
        self._seen = 0
        #: The emulated terminal, cell by cell.
        self.emulator = _Screen(columns, lines, self.type)
        self._stream = pyte.ByteStream(self.emulator)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def wait_for(self, pattern: str, timeout: float = 60) -> str:
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
                    self._take()
                except OSError as error:
                    raise AssertionError(f"it ended: {self.shown!r}") from error

    def _take(self) -> None:
        data = os.read(self.master, 65536)
        self._stream.feed(data)
        self.raw += data.decode(errors="replace")
        self.shown += _CODES.sub("", data.decode(errors="replace"))

    @property
    def screen(self) -> str:
        """What a person sees, and could scroll back to, without spaces at the ends of lines."""
        width = self.emulator.columns
        past = ["".join(row[x].data for x in range(width)) for row in self.emulator.history.top]
        lines = [line.rstrip() for line in [*past, *self.emulator.display]]
        return "\n".join(lines).rstrip()

    def wait(self, timeout: float = 60) -> int:
        """Wait for the end, and return the exit code."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    self._take()
        return self.process.wait(0.1)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
