"""Writes the grammar text that llguidance reads: its variant of Lark.

Facts (llguidance 1.9, docs/syntax.md and parser/src): rules are lower case, terminals upper case;
a terminal is one lexeme, and the lexer always takes the longest lexeme without looking back. So
what is written here is exact only if no lexeme can go on where the next one begins; the callers
see to that.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .regular import Regular
    from .source import Source


class TokenNames(Protocol):
    """What is known of a vocabulary where a grammar names tokens."""

    end_tokens: Sequence[int]

    def find(self, which: int | str) -> int:
        """Return the token of that id or text; GrammarError if there is none."""
        ...


class LarkText:
    """A grammar text that grows rule by rule; names are made unique here."""

    def __init__(self, names: TokenNames) -> None:
        self._names = names
        self._terminals: dict[Regular, str] = {}
        self._sources: dict[Source, str] = {}
        self._lines: list[str] = []
        self._count = 0
        self._others: list[dict[str, str]] = []

    def new_rule(self) -> str:
        """Return a rule's name that is still free; :meth:`define` it."""
        self._count += 1
        return f"r{self._count}"

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
        number = self._names.find(which)
        if negated:
            return f"<[^{','.join(map(str, {number, *self._names.end_tokens}))}]>"
        return f"<[{number}]>"

    def embed(self, text: str) -> str:
        """Add a whole Lark grammar of its own; returns what refers to it."""
        name = f"g{len(self._others)}"
        self._others.append({"name": name, "lark_grammar": text})
        return f"@{name}"

    def embed_source(self, source: Source) -> str:
        """Add ``source`` as a whole grammar; returns what refers to it."""
        inner = LarkText(self._names)
        return self.embed(inner.written(source.lower(inner)))

    def written(self, start: str, *, forcing: bool = True) -> str:
        """Return the rules as one text, beginning at the rule ``start``."""
        options = json.dumps({} if forcing else {"no_forcing": True})
        return "\n".join([f"%llguidance {options}", f"start: {start}", *self._lines])

    def serialize(self, start: str, *, forcing: bool = True) -> str:
        """Return what LLMatcher takes, beginning at the rule ``start``.

        Without ``forcing``, text that must come may come in any tokens that spell it; with it
        llguidance's masks leave only the model's own.
        """
        first = {"lark_grammar": self.written(start, forcing=forcing)}
        return json.dumps({"grammars": [first, *self._others]})


def literal(text: str) -> str:
    """Return a Lark string for ``text``; JSON's escapes are Lark's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def inline_json(schema: object) -> str:
    """Return a Lark expression for JSON that fits ``schema``."""
    return f"%json {json.dumps(schema, ensure_ascii=False)}"
