"""Free text up to a marker: what may come, and where the structure begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class MarkerScan:
    """Looks for ``marker`` in a stream of bytes; use one per generation.

    Only the last ``len(marker) - 1`` bytes are kept: no cost grows with the text.
    """

    def __init__(self, marker: bytes) -> None:
        self._marker = marker
        self._tail = b""

    def peek(self, data: bytes) -> bytes | None:
        """Return what would follow the marker if ``data`` came now; None if it does not end it."""
        joined = self._tail + data
        found = joined.find(self._marker)
        return None if found < 0 else joined[found + len(self._marker) :]

    def push(self, data: bytes) -> bytes | None:
        """Take ``data``; returns as :meth:`peek`."""
        rest = self.peek(data)
        keep = len(self._marker) - 1
        self._tail = (self._tail + data)[-keep:] if keep else b""
        return rest


def overshooting(marker: bytes, spellings: Sequence[bytes]) -> list[int]:
    """Return the tokens that may end the marker and go on after it: a few of thousands."""
    found = []
    for token, spelling in enumerate(spellings):
        for start in range(len(marker)):
            ending = marker[start:]
            goes_on = spelling.startswith(ending) and len(spelling) > len(ending)
            if goes_on or (start == 0 and ending in spelling and not spelling.endswith(ending)):
                found.append(token)
                break
    return found
