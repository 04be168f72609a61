"""Where a text may be cut so that its parts, tokenised one by one, give the tokens of the whole.

llama.cpp looks for the texts of special tokens first, the longest first, and tokenises what lies
between them piece by piece (``tokenizer_st_partition`` in llama-vocab.cpp). So the end of a control
token is such a place, unless its text could be taken for part of another's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def safe_cuts(controls: Iterable[str], specials: Iterable[str]) -> tuple[str, ...]:
    """Return those ``controls`` that overlap no other of ``specials`` in any text."""
    texts = set(specials)
    beginnings = {text[:end] for text in texts for end in range(1, len(text))}
    endings = {text[start:] for text in texts for start in range(1, len(text))}

    def overlaps(control: str) -> bool:
        inner = range(1, len(control))
        return (
            any(control[start:] in beginnings or control[:start] in endings for start in inner)
            or control in beginnings
            or control in endings
            or any(control in text for text in texts if text != control)
        )

    return tuple(control for control in controls if control and not overlaps(control))
