"""Text that comes from a model or a file, on its way to a terminal.

What a model writes is not to be trusted: an escape sequence can retitle the window, fill the
clipboard, or write over what was on the screen. To a pipe or a file text goes as it is: whoever
reads it asked for the model's own bytes.
"""

from __future__ import annotations

import re

#: C0 and C1 control characters and DEL; line ends and tabs are all that a text needs of them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Return ``text`` without control characters, so that it cannot steer a terminal."""
    return _CONTROL.sub("", text)
