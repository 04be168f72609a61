"""The child's log in the parent's ``logging``, and its last lines for when it dies.

Lines go through the child's standard error, where C libraries write too: what was written stays
in the pipe when the process is gone, in order. A record of ``logging`` begins with a mark, its
level and its logger.
"""

from __future__ import annotations

import logging
import os
from collections import deque

from ..errors import one_line

_MARK, _SEPARATOR = "\x1e", "\x1f"
_MAX_LINE = 4000
_KEPT = 40
_ROOT = "edge_llama"

logging.getLogger(_ROOT).addHandler(logging.NullHandler())  # silent unless the host wants it


class PipeHandler(logging.Handler):
    """Writes records to a file descriptor, one line each."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; a parent that is gone is no error here."""
        text = record.getMessage().replace("\n", " ")[:_MAX_LINE]
        fields = (f"{_MARK}{record.levelno}", record.name, text)
        line = _SEPARATOR.join(fields) + "\n"
        try:
            os.write(self._fd, line.encode("utf-8", errors="replace"))
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Do nothing: there is nowhere to complain to."""


class LogReader:
    """Reads a child's standard error to its end, in a thread of its own.

    Attributes:
        lines: the last lines of all kinds.
        raw: the last of those that nobody logged: what C, or Python itself, wrote.
    """

    def __init__(self, fd: int) -> None:
        self.lines: deque[str] = deque(maxlen=_KEPT)
        self.raw: deque[str] = deque(maxlen=_KEPT)
        self._fd = fd

    def run(self) -> None:
        """Read until the end."""
        rest = b""
        while True:
            try:
                data = os.read(self._fd, 65536)
            except OSError:
                data = b""
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _MAX_LINE or not data:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._take(line.decode("utf-8", errors="replace"))
            if not data:
                return

    def _take(self, line: str) -> None:
        level, name = logging.WARNING, f"{_ROOT}.worker"
        fields = line.split(_SEPARATOR, 2)
        is_raw = not (len(fields) == 3 and line[0] == _MARK and fields[0][1:].isdecimal())
        if not is_raw:
            level, line = int(fields[0][1:5]), fields[2]
            name = fields[1] if fields[1].startswith(f"{_ROOT}.") else name
        line = one_line(line, _MAX_LINE).strip()
        if not line:
            return
        self.lines.append(line)
        if is_raw:
            self.raw.append(line)
        logging.getLogger(name).log(level, "%s", line)
