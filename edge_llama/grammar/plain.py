"""Regular expressions and choices: notations of regular languages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import GrammarError
from .anchors import StrayAnchorError, whole
from .bounds import MAX_SIZE, require_text, too_large
from .recognise import checked_text
from .regexp import RegexParser
from .regular import Alt, Regular, Text

if TYPE_CHECKING:
    from .lark import LarkText


class RegularSource:
    """A source whose language is regular; ``tree`` says which."""

    checkable = True
    spaced = False

    def tree(self) -> Regular:
        """Return the language."""
        raise NotImplementedError

    def lower(self, lark: LarkText) -> str:
        """Add one terminal."""
        return lark.regular(self.tree())

    def part(self) -> Regular:
        """Return the language."""
        return self.tree()

    def value(self, text: str) -> str:
        """Return the text itself, if it fits."""
        return checked_text(self, text)


@dataclass(frozen=True)
class RegexSource(RegularSource):
    """Texts that Python's ``re.fullmatch`` finds."""

    pattern: str

    def __post_init__(self) -> None:
        self.tree()

    def tree(self) -> Regular:
        """Return the language."""
        parser = RegexParser(self.pattern, "python")
        try:
            return whole(parser.parse())
        except StrayAnchorError:
            raise parser.fault("an anchor inside the text", supported=False) from None


@dataclass(frozen=True)
class ChoiceSource(RegularSource):
    """One of some texts."""

    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.texts or not all(isinstance(text, str) for text in self.texts):
            raise GrammarError(
                "a choice is made of texts, and of at least one",
                hint='Write Grammar.choice("yes", "no").',
            )
        if sum(map(len, self.texts)) > 4 * MAX_SIZE:
            raise too_large("the choice", f"{4 * MAX_SIZE} characters")
        for one in self.texts:
            require_text(one, "a choice")

    def tree(self) -> Regular:
        """Return the language."""
        return Alt(tuple(map(Text, dict.fromkeys(self.texts))))
