"""Copying through the terminal: the escape sequence OSC 52, which also works over ssh."""

from __future__ import annotations

import base64

from ...errors import InvalidOptionError

#: Terminals ignore longer sequences (xterm's and tmux's bound is about 100,000 characters).
MAX_BYTES = 74_000


def copy_sequence(text: str) -> str:
    """Return what makes a terminal copy ``text``; InvalidOptionError when it is too long."""
    data = text.encode(errors="replace")
    if len(data) > MAX_BYTES:
        raise InvalidOptionError(
            f"{len(data):,} bytes are more than terminals copy ({MAX_BYTES:,})",
            hint="Save it instead: /save FILE.md",
        )
    return f"\x1b]52;c;{base64.b64encode(data).decode()}\x07"


def last_code(text: str) -> str | None:
    """Return the last fenced code block of a Markdown text."""
    from markdown_it import MarkdownIt

    blocks = [token.content for token in MarkdownIt().parse(text) if token.type == "fence"]
    return blocks[-1] if blocks else None
