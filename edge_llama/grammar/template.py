"""Fixed text with holes: the text is never sampled, each hole has a grammar of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import GrammarError, InvalidOutputError, one_line
from .bounds import MAX_HOLES, require_text, too_large
from .cfg import Cfg, Ref
from .recognise import checked_text, ends_of
from .regular import Alt, Regular, Repeat, Seq, Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .grammar import Grammar
    from .lark import LarkText
    from .source import Source

_HOLE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True)
class TemplateSource:
    """Parts in order: texts, and names with what fills them."""

    parts: tuple[str | tuple[str, Source], ...]
    spaced = False

    @classmethod
    def of(cls, template: str, holes: Mapping[str, Grammar]) -> TemplateSource:
        """Read ``template``, where ``{name}`` is a hole and ``{{``, ``}}`` are braces."""
        parts: list[str | tuple[str, Source]] = []
        require_text(template, "the template")
        seen: set[str] = set()
        fixed, last = "", 0
        for found in _HOLE.finditer(template):
            fixed += template[last : found.start()]
            last = found.end()
            if found[0] in ("{{", "}}"):
                fixed += found[0][0]
                continue
            name = found[1]
            if name is None or name not in holes or name in seen:
                raise _bad_hole(found[0], name, seen)
            seen.add(name)
            if holes[name].marker is not None:
                raise GrammarError(
                    f"the hole {{{name}}} begins with free text up to a marker",
                    hint="Apply after() to the whole template.",
                )
            parts += [fixed] * bool(fixed) + [(name, holes[name].source)]
            fixed = ""
            if len(seen) > MAX_HOLES:
                raise too_large("the template", f"{MAX_HOLES} holes")
        fixed += template[last:]
        unused = holes.keys() - seen
        if unused:
            raise GrammarError(
                f"the template has no hole {{{min(unused)}}}", hint="Name each hole in the text."
            )
        return cls((*parts, *([fixed] if fixed else [])))

    def __post_init__(self) -> None:
        self._cfg()

    @property
    def checkable(self) -> bool:
        """Whether all holes are."""
        return all(isinstance(part, str) or part[1].checkable for part in self.parts)

    def lower(self, lark: LarkText) -> str:
        """Add its rules and those of its holes, divided into lexemes together."""
        return self._cfg().lower(lark)

    def part(self) -> Cfg:
        """Return it as a part of another template."""
        return self._cfg()

    def value(self, text: str) -> dict[str, Any]:
        """Return the value of each hole by name.

        Where a text can be divided in several ways, the first hole takes as much as it can.
        """
        if self.checkable:
            checked_text(self, text)
        ends = self._divide(text)
        values, start = {}, 0
        for part, end in zip(self.parts, ends, strict=True):
            if not isinstance(part, str):
                values[part[0]] = part[1].value(text[start:end])
            start = end
        return values

    def _divide(self, text: str) -> list[int]:
        """Return where each part ends: depth first, the longest first."""
        failed: set[tuple[int, int]] = set()
        ends: list[int] = []
        choices = [self._ends(0, text, 0)] if self.parts else []
        while choices:
            if not choices[-1]:
                choices.pop()
                failed.add((len(ends), ends[-1] if ends else 0))
                if ends:
                    ends.pop()
                continue
            end = choices[-1].pop()
            depth = len(ends) + 1
            if depth == len(self.parts):
                if end == len(text):
                    return [*ends, end]
            elif (depth, end) not in failed:
                ends.append(end)
                choices.append(self._ends(depth, text, end))
        if not self.parts and not text:
            return []
        raise InvalidOutputError(
            f"the text does not fit the template: {one_line(text, 40)!r}",
            hint="Generate it with this grammar, or correct the text.",
            text=text,
        )

    def _ends(self, index: int, text: str, start: int) -> list[int]:
        part = self.parts[index]
        if isinstance(part, str):
            return [start + len(part)] if text.startswith(part, start) else []
        return ends_of(part[1], text, start)

    def _cfg(self) -> Cfg:
        rules: dict[str, Regular] = {}
        items: list[Regular] = []
        for number, part in enumerate(self.parts):
            if isinstance(part, str):
                items.append(Text(part))
                continue
            inner = part[1].part()
            if isinstance(inner, Cfg):
                prefix = f"{number}."
                for name, tree in inner.rules.items():
                    rules[prefix + name] = _renamed(tree, prefix)
                items.append(Ref(prefix + inner.root))
            else:
                items.append(inner)
        return Cfg({"template": Seq(tuple(items)), **rules}, "template")


def _renamed(tree: Regular, prefix: str) -> Regular:
    if isinstance(tree, Ref):
        return Ref(prefix + tree.name)
    if isinstance(tree, Seq | Alt):
        return type(tree)(tuple(_renamed(item, prefix) for item in tree.items))
    if isinstance(tree, Repeat):
        return Repeat(_renamed(tree.item, prefix), tree.low, tree.high)
    return tree


def _bad_hole(found: str, name: str | None, seen: set[str]) -> GrammarError:
    if name is None:
        return GrammarError(
            f"the template has a single {found}", hint="Write {{ and }} for braces in the text."
        )
    if name in seen:
        return GrammarError(f"the hole {{{name}}} comes twice", hint="Give it another name.")
    return GrammarError(
        f"nothing fills the hole {{{one_line(name)}}}",
        hint=f"Pass a grammar for it: Grammar.template(text, {one_line(name) or 'name'}=...).",
    )
