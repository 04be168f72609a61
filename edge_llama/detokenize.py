"""Token bytes -> text, never half a character."""

from __future__ import annotations

import codecs


class TextDecoder:
    """Incremental UTF-8: bytes of a character that is not complete yet are held back.

    Bytes that can never become valid text turn into U+FFFD, as everywhere in Python.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, piece: bytes) -> str:
        """Return the characters that ``piece`` completes."""
        return self._decoder.decode(piece)

    def finish(self) -> str:
        """Return what is left at the end: U+FFFD for a character that was cut off, or ""."""
        return self._decoder.decode(b"", final=True)
