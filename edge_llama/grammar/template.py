from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .lark import literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .grammar import Grammar
    from .lark import LarkText


@dataclass(frozen=True)
class TemplateSource:
    parts: tuple[str | tuple[str, Grammar], ...]

    @classmethod
    def of(cls, text: str, holes: Mapping[str, Grammar]) -> TemplateSource:
        parts = [
            (part, holes[part]) if index % 2 else part
            for index, part in enumerate(re.split(r"\{(\w+)\}", text))
        ]
        return cls(tuple(part for part in parts if part))

    def lower(self, lark: LarkText) -> str:
        return lark.rule(
            " ".join(
                literal(part) if isinstance(part, str) else part[1].source.lower(lark)
                for part in self.parts
            )
        )

    def value(self, text: str) -> dict[str, Any]:
        raise NotImplementedError
