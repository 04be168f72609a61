"""Writes the grammar text that llguidance reads: its variant of Lark.

Facts (llguidance 1.9, docs/syntax.md and parser/src): rules are lower case, terminals upper case;
a terminal is one lexeme, and the lexer always takes the longest lexeme without looking back. So
what is written here is exact only if no lexeme can go on where the next one begins; the callers
see to that.
"""

from __future__ import annotations

import json


class LarkText:
    """A grammar text that grows rule by rule; names are made unique here."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._names = 0
        self._others: list[dict[str, str]] = []
        self.options: dict[str, object] = {}

    def new_rule(self) -> str:
        """Return a rule's name that is still free; :meth:`define` it."""
        self._names += 1
        return f"r{self._names}"

    def define(self, name: str, body: str) -> None:
        """Say what the rule or terminal ``name`` is."""
        self._lines.append(f"{name}: {body}")

    def rule(self, body: str) -> str:
        """Add a rule; returns its name."""
        name = self.new_rule()
        self.define(name, body)
        return name

    def terminal(self, body: str) -> str:
        """Add a terminal, which becomes one lexeme; returns its name."""
        name = self.new_rule().upper()
        self.define(name, body)
        return name

    def embed(self, text: str) -> str:
        """Add a whole Lark grammar of its own; returns what refers to it."""
        name = f"g{len(self._others)}"
        self._others.append({"name": name, "lark_grammar": text})
        return f"@{name}"

    def serialize(self, start: str) -> str:
        """Return what LLMatcher takes, beginning at the rule ``start``."""
        text = "\n".join(["%llguidance {}", f"start: {start}", *self._lines])
        return json.dumps({"grammars": [{"lark_grammar": text}, *self._others]})


def literal(text: str) -> str:
    """Return a Lark string for ``text``; JSON's escapes are Lark's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def inline_json(schema: object) -> str:
    """Return a Lark expression for JSON that fits ``schema``."""
    return f"%json {json.dumps(schema, ensure_ascii=False)}"
