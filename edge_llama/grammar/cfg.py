"""Context-free grammars of trees: checked, tidied, and which parts are regular."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import GrammarError, one_line
from .bounds import MAX_LEAVES, MAX_RULES, MAX_SHORTEST, too_large
from .regular import NOTHING, Alt, Chars, Regular, Repeat, Seq, Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .charset import CharSet
    from .lark import LarkText
    from .source import Source

#: A regular part larger than this stays a rule: copies of it would make the grammar explode.
_INLINED = 2000


@dataclass(frozen=True)
class Ref(Regular):
    """A rule's name in a tree; gone from trees that are regular."""

    name: str


@dataclass(frozen=True)
class Token(Regular):
    """One token of the vocabulary, by id or by its text; or any but that one."""

    which: int | str
    negated: bool


@dataclass(frozen=True)
class Opaque(Regular):
    """A grammar of another notation, which writes itself.

    ``begins`` are the characters it may begin with, ``goes_on`` those that must not follow it.
    """

    source: Source
    begins: CharSet
    goes_on: CharSet


class Cfg:
    """Rules by name and the first one's name.

    Raises:
        GrammarError: a rule is missing, or no text fits the grammar.
    """

    def __init__(self, rules: dict[str, Regular], root: str) -> None:
        if root not in rules:
            raise GrammarError(
                f"the grammar has no rule {one_line(root)!r}",
                hint="Name the rule to begin with: Grammar.gbnf(text, root=NAME).",
            )
        for name, tree in rules.items():
            for ref in refs(tree):
                if ref not in rules:
                    raise GrammarError(
                        f"the rule {name} uses {ref}, which is not defined",
                        hint=f"Define {ref} ::= ...",
                        path=name,
                    )
        if sum(1 for tree in rules.values() for _ in leaves(tree)) > MAX_LEAVES:
            raise too_large("the grammar", f"{MAX_LEAVES} parts")
        self.root = root
        self.rules = _productive({name: _loop(name, tree) for name, tree in rules.items()}, root)
        self._regular: dict[str, Regular | None] = {}
        for name in self.rules:
            self._inline(name)

    def regular(self, name: str) -> Regular | None:
        """Return the language of a rule as one tree, if it is regular and not too large."""
        return self._regular[name]

    def resolved(self, tree: Regular) -> Regular:
        """Return ``tree`` with what is regular in place of its name."""
        if isinstance(tree, Ref):
            return self._regular[tree.name] or tree
        if isinstance(tree, Seq | Alt):
            return type(tree)(tuple(self.resolved(item) for item in tree.items))
        if isinstance(tree, Repeat):
            return Repeat(self.resolved(tree.item), tree.low, tree.high)
        return tree

    def lower(self, lark: LarkText) -> str:
        """Add the rules to ``lark``; returns the first one's name there."""
        from .lexemes import Lowering

        return Lowering(self, lark).start()

    def _inline(self, name: str) -> None:
        """Find the regular tree of a rule and of all below it, without recursion in Python."""
        stack, open_rules = [name], set()
        while stack:
            current = stack[-1]
            if current in self._regular:
                stack.pop()
                continue
            below = [ref for ref in refs(self.rules[current]) if ref not in self._regular]
            if current in open_rules:  # all below is known, or part of a cycle
                for ref in below:
                    self._regular[ref] = None
                self._regular[current] = self._try(current)
                stack.pop()
                continue
            open_rules.add(current)
            for ref in below:
                if ref in open_rules:
                    self._regular[ref] = None  # a cycle
                else:
                    stack.append(ref)

    def _try(self, name: str) -> Regular | None:
        tree = self.rules[name]
        if any(isinstance(leaf, Token | Opaque) for leaf in leaves(tree)):
            return None
        if any(self._regular[ref] is None for ref in refs(tree)):
            return None
        found = self.resolved(tree)
        return found if found.size <= _INLINED else None


def leaves(tree: Regular) -> Iterator[Regular]:
    """Return the leaves of a tree, from left to right."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, Seq | Alt):
            stack.extend(reversed(node.items))
        elif isinstance(node, Repeat):
            stack.append(node.item)
        else:
            yield node


def refs(tree: Regular) -> list[str]:
    """Return the names in a tree, each once."""
    return list(dict.fromkeys(leaf.name for leaf in leaves(tree) if isinstance(leaf, Ref)))


def _loop(name: str, tree: Regular) -> Regular:
    """Return a rule that calls itself at its end or beginning as a repeat: A = P A | Q is P* Q.

    llguidance's parser keeps an item for every open call, so recursion at the end would stop after
    some hundred steps (docs/syntax.md, "Recursive rules").
    """
    alternatives = tree.items if isinstance(tree, Alt) else (tree,)
    own = Ref(name)
    parts = [alt.items if isinstance(alt, Seq) else (alt,) for alt in alternatives]
    at_end = [bool(part) and part[-1] == own for part in parts]
    at_start = [bool(part) and part[0] == own for part in parts]
    if any(first and last for first, last in zip(at_start, at_end, strict=True)):
        parts = [part for part in parts if part != (own,)]  # A = A says nothing
        return tree if len(parts) == len(alternatives) else _loop(name, _alt(parts))
    for found, right in ((at_end, True), (at_start, False)):
        if any(found):
            again = _alt(
                [p[:-1] if right else p[1:] for p, f in zip(parts, found, strict=True) if f]
            )
            rest = _alt([part for part, is_it in zip(parts, found, strict=True) if not is_it])
            loop = Repeat(again, 0, None)
            return Seq((loop, rest) if right else (rest, loop))
    return tree


def _alt(parts: list[tuple[Regular, ...]]) -> Regular:
    items = [part[0] if len(part) == 1 else Seq(part) for part in parts]
    return items[0] if len(items) == 1 else Alt(tuple(items))


def _productive(rules: dict[str, Regular], root: str) -> dict[str, Regular]:
    """Return the rules that can be reached, without alternatives that no finite text fits."""
    users: dict[str, list[str]] = {name: [] for name in rules}
    for name, tree in rules.items():
        for ref in refs(tree):
            users[ref].append(name)
    known: set[str] = set()
    todo = list(rules)
    while todo:
        name = todo.pop()
        if name not in known and _ends(rules[name], known):
            known.add(name)
            todo += users[name]
    if root not in known:
        raise GrammarError(
            f"no finite text fits the grammar: {one_line(root)} never comes to an end",
            hint="Give every rule an alternative that does not lead back to it.",
            path=root,
        )
    kept: dict[str, Regular] = {}
    todo = [root]
    while todo:
        name = todo.pop()
        if name not in kept:
            kept[name] = _pruned(rules[name], known)
            todo += refs(kept[name])
    if len(kept) > MAX_RULES:
        raise too_large("the grammar", f"{MAX_RULES} rules")
    _refuse_endless(kept, root)
    return kept


def _ends(tree: Regular, known: set[str]) -> bool:
    if isinstance(tree, Ref):
        return tree.name in known
    if isinstance(tree, Seq):
        return all(_ends(item, known) for item in tree.items)
    if isinstance(tree, Alt):
        return any(_ends(item, known) for item in tree.items)
    if isinstance(tree, Repeat):
        return tree.low == 0 or _ends(tree.item, known)
    return bool(tree.chars) if isinstance(tree, Chars) else True


def _refuse_endless(rules: dict[str, Regular], root: str) -> None:
    """Refuse a grammar whose shortest text is longer than anything anybody generates."""
    users: dict[str, list[str]] = {name: [] for name in rules}
    for name, tree in rules.items():
        for ref in refs(tree):
            users[ref].append(name)
    shortest: dict[str, float] = dict.fromkeys(rules, math.inf)
    todo = list(rules)
    while todo:
        name = todo.pop()
        found = _shortest(rules[name], shortest)
        if found < shortest[name]:
            shortest[name] = found
            todo += users[name]
    if shortest[root] > MAX_SHORTEST:
        raise too_large("the shortest text of the grammar", f"{MAX_SHORTEST} characters")


def _shortest(tree: Regular, known: dict[str, float]) -> float:
    if isinstance(tree, Ref):
        return known[tree.name]
    if isinstance(tree, Seq):
        return sum(_shortest(item, known) for item in tree.items)
    if isinstance(tree, Alt):
        return min((_shortest(item, known) for item in tree.items), default=math.inf)
    if isinstance(tree, Repeat):
        return tree.low * _shortest(tree.item, known) if tree.low else 0
    return len(tree.value) if isinstance(tree, Text) else 1


def _pruned(tree: Regular, known: set[str]) -> Regular:
    if not _ends(tree, known):
        return NOTHING
    if isinstance(tree, Seq):
        return Seq(tuple(_pruned(item, known) for item in tree.items))
    if isinstance(tree, Alt):
        items = tuple(_pruned(item, known) for item in tree.items if _ends(item, known))
        return items[0] if len(items) == 1 else Alt(items)
    if isinstance(tree, Repeat):
        if not _ends(tree.item, known):
            return Seq(())
        return Repeat(_pruned(tree.item, known), tree.low, tree.high)
    return tree
