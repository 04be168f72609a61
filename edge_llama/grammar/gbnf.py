r"""GBNF, llama.cpp's notation for grammars, read into trees.

Follows ``llama_grammar_parser`` of llama.cpp (src/llama-grammar.cpp), which is the only exact
description; a difference on purpose: a rule that is defined twice, an empty class ``[]`` and a
repeat whose numbers are in the wrong order are errors, and ``_`` may stand in names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import GrammarError, one_line
from .bounds import MAX_DEPTH, MAX_REPEAT, MAX_RULES, MAX_TEXT, require_text, too_large
from .cfg import Cfg, Ref, Token, leaves
from .charset import ANY, NONE, CharSet
from .recognise import checked_text
from .regular import Alt, Chars, Regular, Repeat, Seq, Text

if TYPE_CHECKING:
    from .lark import LarkText

_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_COUNT = re.compile(r"\{\s*([0-9]+)\s*(,?)\s*([0-9]*)\s*\}")
_TOKEN = re.compile(r"(!?)<(?:\[([0-9]{1,9})\]|[^>\s][^>]*)>")
_HEX = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))")
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}


@dataclass(frozen=True)
class GbnfSource:
    """A GBNF text and the name of its first rule."""

    text: str
    root: str
    spaced = False

    def __post_init__(self) -> None:
        self._cfg()

    def lower(self, lark: LarkText) -> str:
        """Add its rules; texts of tokens are looked up in the vocabulary."""
        return self._cfg().lower(lark)

    @property
    def checkable(self) -> bool:
        """Whether it names no tokens."""
        trees = self._cfg().rules.values()
        return not any(isinstance(leaf, Token) for tree in trees for leaf in leaves(tree))

    def part(self) -> Regular | Cfg:
        """Return the rules, or the language if it is regular."""
        cfg = self._cfg()
        return cfg.regular(self.root) or cfg

    def value(self, text: str) -> str:
        """Return the text itself, if it fits."""
        return checked_text(self, text)

    def _cfg(self) -> Cfg:
        return Cfg(_Parser(self.text).parse(), self.root)


class _Parser:
    def __init__(self, source: str) -> None:
        if len(source) > MAX_TEXT:
            raise too_large("the GBNF text", f"{MAX_TEXT} characters")
        require_text(source, "the GBNF text")
        self._text = source
        self._at = 0
        self._depth = 0

    def parse(self) -> dict[str, Regular]:
        """Return the rules by name.

        Raises:
            GrammarError: a mistake; ``path`` is its line.
        """
        rules: dict[str, Regular] = {}
        self._skip(lines=True)
        while self._at < len(self._text):
            name = self._name("a rule's name")
            self._skip(lines=False)
            if not self._text.startswith("::=", self._at):
                raise self._fault("::= is expected")
            self._at += 3
            self._skip(lines=True)
            if name in rules:
                raise self._fault(f"the rule {name} is defined twice")
            rules[name] = self._alternatives(nested=False)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                raise self._fault(f"{one_line(self._text[self._at])} is not expected")
            if len(rules) > MAX_RULES:
                raise too_large("the grammar", f"{MAX_RULES} rules")
            self._skip(lines=True)
        return rules

    def _fault(self, what: str) -> GrammarError:
        line = self._text.count("\n", 0, self._at) + 1
        column = self._at - (self._text.rfind("\n", 0, self._at) + 1) + 1
        return GrammarError(
            f"GBNF line {line}, column {column}: {what}",
            hint="Correct the grammar; llama.cpp's grammars/README.md describes the notation.",
            path=f"line {line}",
        )

    def _skip(self, *, lines: bool) -> None:
        pattern = _SPACE_AND_LINES if lines else _SPACE
        found = pattern.match(self._text, self._at)
        assert found is not None  # noqa: S101 - it matches nothing too
        self._at = found.end()

    def _name(self, what: str) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            raise self._fault(f"{what} is expected")
        self._at = found.end()
        return found[0]

    def _alternatives(self, *, nested: bool) -> Regular:
        items = [self._sequence(nested=nested)]
        while self._text.startswith("|", self._at):
            self._at += 1
            self._skip(lines=True)
            items.append(self._sequence(nested=nested))
        return items[0] if len(items) == 1 else Alt(tuple(items))

    def _sequence(self, *, nested: bool) -> Regular:
        items: list[Regular] = []
        while self._at < len(self._text):
            repeated = self._repeat(items[-1] if items else None)
            if repeated is not None:
                items[-1] = repeated
            else:
                item = self._item()
                if item is None:
                    break
                items.append(item)
            self._skip(lines=nested)
        return items[0] if len(items) == 1 else Seq(tuple(items))

    def _item(self) -> Regular | None:  # noqa: PLR0911 - one line per kind
        char = self._text[self._at]
        if char == '"':
            return self._literal()
        if char == "[":
            return self._class()
        if char == "(":
            return self._group()
        if char == ".":
            self._at += 1
            return Chars(ANY)
        if char in "<!":
            return self._token()
        if _NAME.match(char):
            return Ref(self._name("a name"))
        return None

    def _group(self) -> Regular:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise too_large("the GBNF text", f"{MAX_DEPTH} nested groups")
        self._at += 1
        self._skip(lines=True)
        tree = self._alternatives(nested=True)
        if not self._text.startswith(")", self._at):
            raise self._fault(") is expected")
        self._at += 1
        self._depth -= 1
        return tree

    def _repeat(self, item: Regular | None) -> Regular | None:
        char = self._text[self._at]
        if char not in "*+?{":
            return None
        if item is None:
            raise self._fault(f"{char} repeats nothing")
        low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(char, (0, 0))
        if char == "{":
            found = _COUNT.match(self._text, self._at)
            if found is None or (found[3] and not found[2]):
                raise self._fault("a repeat like {2}, {2,} or {2,5} is expected")
            if max(len(found[1]), len(found[3])) > 9 or int(found[1]) > MAX_REPEAT:
                raise too_large(f"the repeat {found[0]}", f"{MAX_REPEAT} times")
            low = int(found[1])
            high = int(found[3]) if found[3] else None if found[2] else low
            if high is not None and high < low:
                raise self._fault(f"the numbers of {found[0]} are in the wrong order")
            self._at = found.end() - 1
        self._at += 1
        return Repeat(item, low, high)

    def _literal(self) -> Regular:
        self._at += 1
        chars = []
        while not self._text.startswith('"', self._at):
            chars.append(self._char())
        self._at += 1
        return Text("".join(chars))

    def _class(self) -> Regular:
        self._at += 1
        negated = self._text.startswith("^", self._at)
        self._at += negated
        chars, empty = NONE, True
        while not self._text.startswith("]", self._at):
            empty = False
            low = high = self._char()
            if self._text.startswith("-", self._at) and not self._text.startswith(
                "]", self._at + 1
            ):
                self._at += 1
                high = self._char()
            chars |= CharSet.of((ord(low), ord(high)))
        if empty:
            raise self._fault("a class without characters")
        self._at += 1
        chars = ~chars if negated else chars
        return Chars(chars) if chars else Alt(())

    def _char(self) -> str:
        if self._at >= len(self._text):
            raise self._fault("the grammar ends inside a literal or a class")
        char = self._text[self._at]
        if char != "\\":
            self._at += 1
            return char
        found = _HEX.match(self._text, self._at)
        if found:
            code = int(next(filter(None, found.groups())), 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise self._fault(f"{found[0]} is no character")
            self._at = found.end()
            return chr(code)
        escaped = self._text[self._at + 1 : self._at + 2]
        if escaped not in _ESCAPES or not escaped:
            raise self._fault(f"the unknown escape \\{one_line(escaped)}")
        self._at += 2
        return _ESCAPES[escaped]

    def _token(self) -> Regular:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            raise self._fault("a token like <[1000]> or <think> is expected")
        self._at = found.end()
        negated, number = bool(found[1]), found[2]
        spelled = found[0][len(found[1]) :]
        return Token(spelled if number is None else int(number), negated=negated)
