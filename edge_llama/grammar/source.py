"""What a grammar is made of: one frozen class per notation, each in its own module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .lark import LarkText


class Source(Protocol):
    """A notation; instances are frozen, hashable and picklable, and checked when made."""

    def lower(self, lark: LarkText) -> str:
        """Add rules to ``lark``; returns the expression that stands for this grammar.

        Raises:
            GrammarError: it cannot be had.
        """
        ...

    def value(self, text: str) -> Any:
        """Return what ``text`` stands for; it is known to be in the language.

        Raises:
            InvalidOutputError: it stands for nothing all the same.
        """
        ...
