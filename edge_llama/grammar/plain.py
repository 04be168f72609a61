from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .lark import literal

if TYPE_CHECKING:
    from .lark import LarkText


@dataclass(frozen=True)
class RegexSource:
    pattern: str

    def lower(self, lark: LarkText) -> str:
        return lark.terminal("/" + self.pattern.replace("/", "\\/") + "/")

    def value(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class ChoiceSource:
    texts: tuple[str, ...]

    def lower(self, lark: LarkText) -> str:
        return lark.terminal(" | ".join(map(literal, self.texts)))

    def value(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class GbnfSource:
    text: str
    root: str

    def lower(self, lark: LarkText) -> str:
        from llguidance.gbnf_to_lark import gbnf_to_lark

        return lark.embed(gbnf_to_lark(self.text))

    def value(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class LarkSource:
    text: str

    def lower(self, lark: LarkText) -> str:
        return lark.embed(self.text)

    def value(self, text: str) -> str:
        return text
