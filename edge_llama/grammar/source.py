"""What a grammar is made of: one frozen class per notation, each in its own module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .cfg import Cfg
    from .lark import LarkText
    from .regular import Regular


class Source(Protocol):
    """A notation; instances are frozen, hashable and picklable, and checked when made."""

    def __hash__(self) -> int: ...

    @property
    def checkable(self) -> bool:
        """Whether a text alone shows if it fits: not if the grammar names tokens."""
        ...

    @property
    def spaced(self) -> bool:
        """Whether white space may come before it where it begins after a marker."""
        ...

    def lower(self, lark: LarkText) -> str:
        """Add rules to ``lark``; returns the expression that stands for this grammar.

        Raises:
            GrammarError: it cannot be had.
        """
        ...

    def part(self) -> Regular | Cfg:
        """Return it as a part of a template."""
        ...

    def value(self, text: str) -> Any:
        """Return what ``text`` stands for.

        Raises:
            IncompleteError: the text ends inside the structure.
            InvalidOutputError: it is not in the language.
        """
        ...
