"""Writes the grammar text that llguidance reads: its variant of Lark.

Facts (llguidance 1.9, docs/syntax.md and parser/src): rules are lower case, terminals upper case;
a terminal is one lexeme, and the lexer always takes the longest lexeme without looking back. So
what is written here is exact only if no lexeme can go on where the next one begins; the callers
see to that.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .regular import Regular
    from .source import Source


class LarkText:
    """A grammar text that grows rule by rule; names are made unique here."""

    def __init__(self, find_token: Callable[[str], int]) -> None:
        self._find_token = find_token
        self._terminals: dict[Regular, str] = {}
        self._sources: dict[Source, str] = {}
        self._lines: list[str] = []
        self._names = 0
        self._others: list[dict[str, str]] = []

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

    def regular(self, tree: Regular) -> str:
        """Add ``tree`` as a terminal, once; returns its name."""
        name = self._terminals.get(tree)
        if name is None:
            pattern = tree.pattern()
            name = self._terminals[tree] = self.terminal(f"/{pattern}/" if pattern else '""')
        return name

    def once(self, source: Source) -> str:
        """Return the name of the rule that stands for ``source``, written the first time."""
        if source not in self._sources:
            self._sources[source] = self.rule(source.lower(self))
        return self._sources[source]

    def token(self, which: int | str, *, negated: bool) -> str:
        """Return what stands for one token, by id or by its text, or any other but that.

        Raises:
            GrammarError: the vocabulary has no such token.
        """
        number = which if isinstance(which, int) else self._find_token(which)
        return f"<[^{number}]>" if negated else f"<[{number}]>"

    def embed(self, text: str) -> str:
        """Add a whole Lark grammar of its own; returns what refers to it."""
        name = f"g{len(self._others)}"
        self._others.append({"name": name, "lark_grammar": text})
        return f"@{name}"

    def embed_source(self, source: Source) -> str:
        """Add ``source`` as a whole grammar; returns what refers to it."""
        inner = LarkText(self._find_token)
        return self.embed(inner.written(source.lower(inner)))

    def written(self, start: str) -> str:
        """Return the rules as one text, beginning at the rule ``start``."""
        return "\n".join(["%llguidance {}", f"start: {start}", *self._lines])

    def serialize(self, start: str) -> str:
        """Return what LLMatcher takes, beginning at the rule ``start``."""
        return json.dumps({"grammars": [{"lark_grammar": self.written(start)}, *self._others]})


def literal(text: str) -> str:
    """Return a Lark string for ``text``; JSON's escapes are Lark's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def inline_json(schema: object) -> str:
    """Return a Lark expression for JSON that fits ``schema``."""
    return f"%json {json.dumps(schema, ensure_ascii=False)}"
