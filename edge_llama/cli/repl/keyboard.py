"""What is typed while nobody reads waits for the next input line, and does not show before."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def quiet_keyboard() -> Iterator[None]:
    """Let a POSIX terminal neither echo nor translate keys in this block; Ctrl-C works.

    With echo, what is typed ahead would stand in the middle of an answer; translated, Enter would
    arrive as Ctrl-J, which is another key here. Windows does neither.
    """
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield
        return
    import termios

    before = termios.tcgetattr(sys.stdin)
    quiet = termios.tcgetattr(sys.stdin)
    quiet[0] &= ~termios.ICRNL
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(sys.stdin, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
