"""Regular expressions, choices and Lark: notations whose value is the text itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import GrammarError, one_line
from .anchors import StrayAnchorError, whole
from .bounds import MAX_RULES, MAX_SIZE, too_large
from .cfg import Cfg, Opaque, Ref
from .charset import NONE
from .recognise import checked_text
from .regexp import RegexParser
from .regular import Alt, Regular, text

if TYPE_CHECKING:
    from .lark import LarkText

#: A Lark text of this many characters still compiles in well under two seconds.
_MAX_LARK = 100_000
_RULE = re.compile(r"^\s*[?!_]*[a-zA-Z][\w-]*(?:\.\d+)?(?:\[[^\]]*\])?(?:::\w+)?\s*:", re.M)


class RegularSource:
    """A source whose language is regular; ``tree`` says which."""

    checkable = True

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
        if sum(map(len, self.texts)) > 10 * MAX_SIZE:
            raise too_large("the choice", f"{10 * MAX_SIZE} characters")
        for one in self.texts:
            if not one.isascii() and any(0xD800 <= ord(char) < 0xE000 for char in one):
                raise GrammarError(
                    f"the choice {one_line(one)!r} holds half of a surrogate pair",
                    hint="Use text that UTF-8 can say.",
                )

    def tree(self) -> Regular:
        """Return the language."""
        return Alt(tuple(text(one) for one in dict.fromkeys(self.texts)))


@dataclass(frozen=True)
class LarkSource:
    """A Lark text as llguidance understands it; mistakes show when it is compiled."""

    text: str

    def __post_init__(self) -> None:
        if len(self.text) > _MAX_LARK:
            raise too_large("the Lark text", f"{_MAX_LARK} characters")
        if len(_RULE.findall(self.text)) > MAX_RULES:
            raise too_large("the Lark text", f"{MAX_RULES} rules")

    @property
    def checkable(self) -> bool:
        """Whether it names no tokens; a literal that looks like one counts too."""
        return re.search(r"<[^<>\s]+>", self.text) is None

    def lower(self, lark: LarkText) -> str:
        """Add it as a grammar of its own."""
        return lark.embed(self.text)

    def part(self) -> Cfg:
        """Return it as something that writes itself."""
        return Cfg({"lark": Opaque(self, NONE, NONE), "root": Ref("lark")}, "root")

    def value(self, text: str) -> str:
        """Return the text itself, if it fits."""
        return checked_text(self, text)
