"""Writes nodes as rules: JSON with fixed separators, every repeat bounded.

No lexeme here can go on where another begins: strings end with their quote, literals and numbers
are followed by a separator or a closing bracket.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..lark import inline_json, literal
from . import digits as numeric
from . import strings as textual
from .model import AnyJson, Arrays, Node, Numbers, Objects, Strings, Union, Values
from .objects import ObjectRules

if TYPE_CHECKING:
    from ..lark import LarkText
    from .model import Key
    from .options import JsonOptions
    from .reader import Reader


class Writer:
    """Adds the rules of one schema to a :class:`LarkText`."""

    def __init__(self, reader: Reader, lark: LarkText) -> None:
        self._reader = reader
        self._lark = lark
        self.options: JsonOptions = reader.options
        self._rules: dict[Key, str] = {}
        self._terminals: dict[str, str] = {}
        self._any: dict[int, str] = {}
        self._todo: list[tuple[str, Node]] = []
        space = self.options.whitespace
        around = f"[ \\n\\r\\t]{{0,{space}}}" if space else ""
        self.comma = self.terminal(f"/{around},{around}/" if space else '", "')
        self.colon = self.terminal(f"/{around}:{around}/" if space else '": "')
        self._brackets = {
            bracket: self.terminal(
                f"/{around}\\{bracket}/" if bracket in "]}" else f"/\\{bracket}{around}/"
            )
            if space
            else literal(bracket)
            for bracket in "[]{}"
        }

    def start(self) -> str:
        """Add all rules; returns the name of the first."""
        name = self.rule(self._reader.root)
        while self._todo:
            rule, node = self._todo.pop()
            self._lark.define(rule, self.body(node))
        return name

    def rule(self, key: Key) -> str:
        """Return the name of a node's rule, to be written if it is new."""
        name = self._rules.get(key)
        if name is None:
            node = self._reader.nodes[key]
            assert node is not None  # noqa: S101 - the reader saw to it
            name = self._rules[key] = self._lark.new_rule()
            self._todo.append((name, node))
        return name

    def fits(self, key: Key) -> bool:
        """Tell whether anything fits the node."""
        return self._reader.nodes.get(key) is not None

    def terminal(self, body: str) -> str:
        """Return the name of a terminal, one for each body."""
        if body not in self._terminals:
            self._terminals[body] = self._lark.terminal(body)
        return self._terminals[body]

    def body(self, node: Node) -> str:  # noqa: PLR0911 - one line per kind
        """Return a rule's body."""
        if isinstance(node, Values):
            return self._values(node.values)
        if isinstance(node, Strings):
            return self.terminal(textual.terminal(node, self.options.max_string_length))
        if isinstance(node, Numbers):
            return self._numbers(node)
        if isinstance(node, Objects):
            return ObjectRules(self, node).body()
        if isinstance(node, Arrays):
            return self._arrays(node)
        if isinstance(node, Union):
            options = [
                self.rule(option) if isinstance(option, tuple) else self.inner(self.body(option))
                for option in node.options
                if not isinstance(option, tuple) or self.fits(option)
            ]
            return " | ".join(options)
        assert isinstance(node, AnyJson)  # noqa: S101 - the reader saw to it
        return self._any_json(self.options.max_depth)

    def inner(self, body: str) -> str:
        """Return the name of a new rule."""
        return self._lark.rule(body)

    def bracketed(self, opening: str, inside: str, closing: str) -> str:
        """Return what stands between two brackets."""
        return f"{self._brackets[opening]} {inside} {self._brackets[closing]}"

    def many(self, item: str, low: int, high: int | None) -> str:
        """Return ``low`` to ``high`` items with commas between them, of which there may be none."""
        if high == 0:
            return '""'
        more = self.inner(f"{self.comma} {item}")
        rest = self.counted(more, max(0, low - 1), None if high is None else high - 1)
        return f"{item} {rest}" if low else self.inner(f"{item} {rest}") + "?"

    def counted(self, item: str, low: int, high: int | None) -> str:
        """Return ``item`` repeated; Lark cannot say {0}."""
        if high == 0:
            return '""'
        return f"{item}{{{low},{'' if high is None else high}}}"

    def key(self, name: str) -> str:
        """Return a literal key."""
        return literal(json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f"))

    def free_key(self, strings: Strings) -> str:
        """Return a key that the schema does not name."""
        return self.terminal(textual.terminal(strings, self.options.max_key_length))

    def _values(self, values: tuple[Any, ...]) -> str:
        scalars = [value for value in values if not isinstance(value, list | dict)]
        texts = [literal(json.dumps(value, ensure_ascii=False)) for value in scalars]
        bodies = [self.terminal(" | ".join(texts))] if texts else []
        bodies += [self.inner(self._exact(one)) for one in values if isinstance(one, list | dict)]
        return " | ".join(bodies)

    def _exact(self, value: Any) -> str:
        """Return one value, which may be nested, in pieces: brackets are lexemes of their own."""
        if isinstance(value, dict):
            inside = [f"{self.key(k)} {self.colon} {self._exact(v)}" for k, v in value.items()]
            return self.bracketed("{", f" {self.comma} ".join(inside), "}")
        if isinstance(value, list):
            return self.bracketed("[", f" {self.comma} ".join(map(self._exact, value)), "]")
        return self.terminal(literal(json.dumps(value, ensure_ascii=False)))

    def _numbers(self, node: Numbers) -> str:
        values = numeric.listed(node) if node.steps or node.excluded else None
        if values is not None:
            return self.terminal(" | ".join(f'"{value:f}"' for value in values))
        step = numeric.step_of(node)
        if step is None or numeric.is_digits(step):
            return self.terminal(numeric.terminal(node, self.options))
        low, high = numeric.whole_bounds(node, self.options)
        schema = {"type": "integer", "multipleOf": int(step), "minimum": low, "maximum": high}
        return inline_json({**schema, "x-guidance": {"whitespace_flexible": False}})

    def _arrays(self, node: Arrays) -> str:  # noqa: C901 - one branch per kind
        if node.contains is not None:
            return self._containing(node)
        high = node.high
        if high is None:
            high = max(self.options.max_items, node.low, len(node.first))
        first = node.first
        for place, key in enumerate(first):
            if not self.fits(key):
                high, first = min(high, place), first[:place]
                break
        rest = node.rest if node.rest is not None and self.fits(node.rest) else None
        if rest is None:
            high = min(high, len(first))
        if node.unique and rest is not None and not first:
            return self._unique(node, high)
        low = node.low
        if not first:
            inside = self.many(self.rule(rest), low, high) if rest is not None else '""'
            return self.bracketed("[", inside, "]")
        tail = '""'
        if rest is not None and high > len(first):
            more = self.inner(f"{self.comma} {self.rule(rest)}")
            tail = self.counted(more, max(0, low - len(first)), high - len(first))
        for place in range(len(first) - 1, -1, -1):
            comma = f"{self.comma} " if place else ""
            tail = f"{comma}{self.rule(first[place])} {tail}"
            if place >= low:
                tail = self.inner(tail) + "?"
        return self.bracketed("[", tail, "]")

    def _unique(self, node: Arrays, high: int) -> str:
        """Return arrays of different values out of a few: a rule for each set already used."""
        values = self._reader.listed(node.rest)
        assert values is not None  # noqa: S101 - the reader saw to it
        pieces = [self.inner(self._values((value,))) for value in values]
        names: dict[frozenset[int], str] = {frozenset(): self._lark.new_rule()}
        todo = [frozenset[int]()]
        while todo:
            used = todo.pop()
            options = ['""'] if len(used) >= node.low else []
            for index, piece in enumerate(pieces):
                if index in used or len(used) >= high:
                    continue
                after = used | {index}
                if after not in names:
                    names[after] = self._lark.new_rule()
                    todo.append(after)
                comma = f"{self.comma} " if used else ""
                options.append(f"{comma}{piece} {names[after]}")
            self._lark.define(names[used], " | ".join(options))
        return self.bracketed("[", names[frozenset()], "]")

    def _containing(self, node: Arrays) -> str:
        """Return arrays with enough items of a kind: a rule for each pair of counts."""
        assert node.contains is not None  # noqa: S101 - the reader saw to it
        wanted, least, most, plain = node.contains
        high = node.high if node.high is not None else max(self.options.max_items, node.low, least)
        counted = node.high is not None or node.low > least
        cap_items = high if counted else 1
        cap_wanted = least if most is None else most + 1
        steps: dict[tuple[int, int], list[tuple[Key, tuple[int, int]]]] = {}
        todo = [(0, 0)]
        while todo:
            state = todo.pop()
            if state in steps:
                continue
            items, found = state
            steps[state] = [
                (key, (min(items + 1, cap_items), min(reached, cap_wanted)))
                for key, reached in ((wanted, found + 1), (plain, found))
                if self.fits(key)
                and not (most is not None and reached > most)
                and not (counted and items >= high)
            ]
            todo += [after for _, after in steps[state]]
        ends = {s for s in steps if s[1] >= least and not (counted and s[0] < node.low)}
        live: set[tuple[int, int]] = set()
        more = ends
        while more:  # states from which an end can be reached
            live |= more
            more = {s for s in steps.keys() - live if any(t in live for _, t in steps[s])}
        names = {state: self._lark.new_rule() for state in sorted(live)}
        for state, name in names.items():
            comma = f"{self.comma} " if state[0] else ""
            options = ['""'] if state in ends else []
            options += [
                f"{comma}{self.rule(key)} {names[after]}"
                for key, after in steps[state]
                if after in live
            ]
            self._lark.define(name, " | ".join(options))
        return self.bracketed("[", names[0, 0], "]")

    def _any_json(self, depth: int) -> str:
        if depth not in self._any:
            name = self._any[depth] = self._lark.new_rule()
            number = self.body(Numbers("$", integer=False))
            plain = self.terminal('"null" | "true" | "false"')
            options = [plain, number, self.body(Strings("$"))]
            if depth > 0:
                inner = self._any_json(depth - 1)
                array = self.many(inner, 0, self.options.max_items)
                entry = self.inner(f"{self.free_key(Strings('$'))} {self.colon} {inner}")
                entries = self.many(entry, 0, self.options.max_extra_keys)
                options.append(self.inner(self.bracketed("[", array, "]")))
                options.append(self.inner(self.bracketed("{", entries, "}")))
            self._lark.define(name, " | ".join(options))
        return self._any[depth]
