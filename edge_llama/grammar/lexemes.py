"""Divides a grammar into lexemes so that llguidance's lexer reads exactly its language.

The lexer knows only the longest lexeme: with ``"a" "b" "d" | "ab" "c"`` it reads "ab" and refuses
"abd". Single characters as lexemes are always right, but slow. So every regular part begins as one
lexeme, and is taken apart where, by the characters that may follow (FOLLOW sets), one lexeme could
be prolonged, itself or by another that begins alike, when it should end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import GrammarError
from .cfg import Cfg, Opaque, Ref, Token, leaves, refs
from .charset import NONE, CharSet
from .regular import Alt, Chars, Regular, Repeat, Seq, Text, later

if TYPE_CHECKING:
    from .lark import LarkText

#: Above this many lexemes, comparing all pairs takes too long: single characters then.
_COMPARED = 200


class Lexeme(Regular):
    """A regular tree that is read in one go."""

    def __init__(self, tree: Regular) -> None:
        self.tree = tree
        self.follow = NONE

    @property
    def nullable(self) -> bool:
        """Whether the empty text belongs to it."""
        return self.tree.nullable

    @property
    def first(self) -> CharSet:
        """Characters its texts may begin with."""
        return self.tree.first


class Lowering:
    """One grammar on its way into a :class:`LarkText`."""

    def __init__(self, cfg: Cfg, lark: LarkText) -> None:
        self._lark = lark
        self._root = cfg.root
        self._trees = {
            name: cfg.resolved(tree)
            for name, tree in cfg.rules.items()
            if cfg.regular(name) is None or name == cfg.root
        }
        self._split: set[Regular] = set()
        self._apart = False
        self._lexemes: dict[Regular, Lexeme] = {}
        self._plans: dict[str, Regular] = {}

    def start(self) -> str:
        """Add the rules; returns the expression that stands for the first."""
        while True:
            self._lexemes.clear()
            self._plans = {name: self._plan(tree) for name, tree in self._trees.items()}
            if self._apart or self._settled():
                break
        names = {name: self._lark.new_rule() for name in self._plans}
        for name, plan in self._plans.items():
            self._lark.define(names[name], self._write(plan, names))
        return names[self._root]

    def _plan(self, tree: Regular) -> Regular:
        if _is_regular(tree):
            whole = isinstance(tree, Chars) or (isinstance(tree, Text) and len(tree.value) < 2)
            if whole or not (self._apart or tree in self._split):
                return self._lexemes.setdefault(tree, Lexeme(tree))
        if isinstance(tree, Text):
            return Seq(tuple(self._plan(Text(char)) for char in tree.value))
        if isinstance(tree, Seq | Alt):
            merge = not self._apart and tree not in self._split
            return type(tree)(tuple(self._plan(item) for item in _runs(tree, merge=merge)))
        if isinstance(tree, Repeat):
            return Repeat(self._plan(tree.item), tree.low, tree.high)
        return tree

    def _settled(self) -> bool:
        """Look for lexemes in each other's way; returns False after taking some apart."""
        if len(self._lexemes) > _COMPARED:
            self._apart = True
            return False
        _Follow(self._plans, self._root)
        lexemes = list(self._lexemes.values())
        tails = {id(lexeme): later(lexeme.tree) for lexeme in lexemes}
        settled = True
        for long in lexemes:
            if isinstance(long.tree, Chars) or not long.tree.size:
                continue
            tail, first = tails[id(long)], long.first
            for short in lexemes:
                if short is long:
                    clash = long.tree.prolonging.meets(long.follow)
                else:
                    clash = tail.meets(short.follow) and first.meets(short.first)
                if clash:
                    self._split.add(long.tree)
                    settled = False
                    break
        return settled

    def _write(self, plan: Regular, names: dict[str, str]) -> str:  # noqa: PLR0911 - one line per kind
        if isinstance(plan, Lexeme):
            return self._lark.regular(plan.tree)
        if isinstance(plan, Ref):
            return names[plan.name]
        if isinstance(plan, Opaque):
            return self._lark.once(plan.source)
        if isinstance(plan, Token):
            return self._lark.token(plan.which, negated=plan.negated)
        if isinstance(plan, Seq):
            return " ".join(self._atom(item, names) for item in plan.items) or '""'
        if isinstance(plan, Alt):
            return " | ".join(self._write(item, names) for item in plan.items)
        assert isinstance(plan, Repeat)  # noqa: S101 - its kind says so
        if plan.high == 0:
            return '""'
        atom = self._atom(plan.item, names)
        if plan.high == 1:
            return atom if plan.low else f"{atom}?"
        high = "" if plan.high is None else plan.high
        return f"{atom}{{{plan.low},{high}}}"

    def _atom(self, plan: Regular, names: dict[str, str]) -> str:
        written = self._write(plan, names)
        named = isinstance(plan, Lexeme | Ref | Token | Opaque)
        return written if named else self._lark.rule(written)


def _is_regular(tree: Regular) -> bool:
    return not any(isinstance(leaf, Ref | Token | Opaque) for leaf in leaves(tree))


def _runs(tree: Seq | Alt, *, merge: bool) -> list[Regular]:
    """Return the items; regular ones side by side, or all of an alternation, become one."""
    if not merge:
        return list(tree.items)
    found: list[Regular] = []
    run: list[Regular] = []
    for item in tree.items:
        if _is_regular(item):
            run.append(item)
        else:
            if isinstance(tree, Seq):
                found += _one(tree, run)
                run = []
            found.append(item)
    return found + _one(tree, run)


def _one(tree: Seq | Alt, run: list[Regular]) -> list[Regular]:
    return run if len(run) < 2 else [type(tree)(tuple(run))]


class _Follow:
    """Computes what may follow each lexeme, into ``Lexeme.follow``."""

    def __init__(self, plans: dict[str, Regular], root: str) -> None:
        self._plans = plans
        self._first = dict.fromkeys(plans, NONE)
        self._nullable = dict.fromkeys(plans, False)
        users: dict[str, list[str]] = {name: [] for name in plans}
        for name, plan in plans.items():
            for ref in refs(plan):
                users[ref].append(name)
        todo = list(plans)
        while todo:
            name = todo.pop()
            found = self._begin(plans[name])
            if found != (self._first[name], self._nullable[name]):
                self._first[name], self._nullable[name] = found
                todo += users[name]
        self._after = dict.fromkeys(plans, NONE)
        self._todo = [root]
        seen: set[str] = set()
        while self._todo:
            name = self._todo.pop()
            seen.add(name)
            self._walk(plans[name], self._after[name])
            self._todo += [ref for ref in refs(plans[name]) if ref not in seen]

    def _begin(self, plan: Regular) -> tuple[CharSet, bool]:  # noqa: PLR0911 - one line per kind
        if isinstance(plan, Ref):
            return self._first[plan.name], self._nullable[plan.name]
        if isinstance(plan, Token):
            return NONE, False
        if isinstance(plan, Opaque):
            return plan.begins, False
        if isinstance(plan, Seq):
            first = NONE
            for item in plan.items:
                more, nullable = self._begin(item)
                first |= more
                if not nullable:
                    return first, False
            return first, True
        if isinstance(plan, Alt):
            parts = [self._begin(item) for item in plan.items]
            ranges = [pair for part in parts for pair in part[0].ranges]
            return CharSet.of(*ranges), any(part[1] for part in parts)
        if isinstance(plan, Repeat):
            first, nullable = self._begin(plan.item)
            return (NONE if plan.high == 0 else first), nullable or plan.low == 0
        return plan.first, plan.nullable

    def _walk(self, plan: Regular, after: CharSet) -> None:  # noqa: C901 - one branch per kind
        if isinstance(plan, Lexeme):
            plan.follow |= after
        elif isinstance(plan, Opaque):
            if plan.goes_on.meets(after):
                raise GrammarError(
                    "what follows a JSON value could be part of it: a number goes on with digits",
                    hint="Put other text between them.",
                )
        elif isinstance(plan, Ref):
            joined = self._after[plan.name] | after
            if joined != self._after[plan.name]:
                self._after[plan.name] = joined
                self._todo.append(plan.name)
        elif isinstance(plan, Seq):
            for item in reversed(plan.items):
                self._walk(item, after)
                first, nullable = self._begin(item)
                after = first | after if nullable else first
        elif isinstance(plan, Alt):
            for item in plan.items:
                self._walk(item, after)
        elif isinstance(plan, Repeat):
            again = plan.high is None or plan.high > 1
            self._walk(plan.item, after | self._begin(plan.item)[0] if again else after)
