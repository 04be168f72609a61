"""Lark texts in llguidance's variant; JSON Schemas inside them are held to our own contract."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import GrammarError
from .bounds import MAX_RULES, require_text, too_large
from .cfg import Cfg, Opaque, Ref
from .charset import NONE
from .recognise import checked_text

if TYPE_CHECKING:
    from .lark import LarkText
    from .schema import SchemaSource

#: A text of this many characters still compiles in well under two seconds.
_MAX_LARK = 100_000
_RULE = re.compile(r"^\s*[?!_]*[a-zA-Z][\w-]*(?:\.\d+)?(?:\[[^\]]*\])?(?:::\w+)?\s*:", re.MULTILINE)
#: What %json could be inside of, and %json itself.
_WORD = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|#[^\n]*|/(?:\\.|[^/\\\n])+/|%json\s*')


@dataclass(frozen=True)
class LarkSource:
    """A Lark text; mistakes in it show when it is compiled, those in its %json at once."""

    text: str
    spaced = False

    def __post_init__(self) -> None:
        if len(self.text) > _MAX_LARK:
            raise too_large("the Lark text", f"{_MAX_LARK} characters")
        require_text(self.text, "the Lark text")
        if len(_RULE.findall(self.text)) > MAX_RULES:
            raise too_large("the Lark text", f"{MAX_RULES} rules")
        if "%lark" in self.text:
            raise GrammarError(
                "Lark inside of Lark is not supported", hint="Write its rules into the text itself."
            )
        self._parts()

    @property
    def checkable(self) -> bool:
        """Whether it names no tokens; a literal that looks like one counts too."""
        return re.search(r"<[^<>\s]+>", self.text) is None

    def lower(self, lark: LarkText) -> str:
        """Add it as a grammar of its own."""
        text = "".join(
            part if isinstance(part, str) else lark.embed_source(part) for part in self._parts()
        )
        return lark.embed(text)

    def part(self) -> Cfg:
        """Return it as something that writes itself."""
        return Cfg({"lark": Opaque(self, NONE, NONE), "root": Ref("lark")}, "root")

    def value(self, text: str) -> str:
        """Return the text itself, if it fits."""
        return checked_text(self, text)

    def _parts(self) -> list[str | SchemaSource]:
        from .schema import JsonOptions, SchemaSource

        parts: list[str | SchemaSource] = []
        last, place = 0, 0
        while found := _WORD.search(self.text, place):
            place = found.end()
            if not found[0].startswith("%json"):
                continue
            try:
                schema, end = json.JSONDecoder().raw_decode(self.text, place)
            except (ValueError, RecursionError) as error:
                line = self.text.count("\n", 0, place) + 1
                raise GrammarError(
                    f"Lark line {line}: what follows %json is no JSON: {error}",
                    hint="Correct the schema.",
                    path=f"line {line}",
                ) from None
            parts += [self.text[last : found.start()], SchemaSource.of(schema, JsonOptions())]
            last = place = end
        return [*parts, self.text[last:]]
