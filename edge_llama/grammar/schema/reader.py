"""Reads a document into nodes: which schemas hold together at a place, and what that amounts to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..bounds import too_large
from ..regular import Alt, Text
from .choices import Choices
from .document import Member, fault, step
from .keywords import ANNOTATIONS, TYPES, check_keywords
from .model import AnyJson, Arrays, Key, Node, Strings, Union, Values
from .typed import NothingFitsError, Typed

if TYPE_CHECKING:
    from .document import Document
    from .options import JsonOptions

#: Nodes in all: each may become a rule, and combinations multiply.
_MAX_NODES = 3000
#: uniqueItems takes a rule for each set of values that may be used up.
_MAX_UNIQUE = 7
_CONSTRAINTS_OF = {
    "array": "items prefixItems minItems maxItems uniqueItems contains unevaluatedItems",
    "object": "properties required additionalProperties patternProperties minProperties "
    "maxProperties propertyNames unevaluatedProperties",
    "string": "minLength maxLength pattern format",
    "number": "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf",
}
_TYPE_OF = {key: kind for kind, keys in _CONSTRAINTS_OF.items() for key in keys.split()}


class Reader:
    """One document; ``nodes`` by key, None where nothing fits, ``unchecked`` what is left out."""

    def __init__(self, document: Document, options: JsonOptions) -> None:
        self.document = document
        self.options = options
        self.nodes: dict[Key, Node | None] = {}
        self.unchecked: list[str] = []
        self.reasons: dict[Key, str] = {}
        self._checked: set[str] = set()
        self._todo: list[tuple[Key, list[Member]]] = []
        self._known: set[Key] = set()
        self._typed = Typed(self)
        self._choices = Choices(self)
        self.root = self.key([document.root])

    def read(self) -> None:
        """Read all that can be reached.

        Raises:
            GrammarError: a keyword is malformed, unknown or not enforced, or contradicts another.
        """
        while self._todo:
            key, members = self._todo.pop()
            try:
                self.nodes[key] = self._node(members)
            except NothingFitsError as error:
                self.nodes[key] = None
                self.reasons[key] = str(error)
            if len(self.nodes) > _MAX_NODES:
                raise too_large("the schema", f"{_MAX_NODES} places and combinations")
        self._require_listed()

    def listed(self, key: Key | None) -> tuple[Any, ...] | None:
        """Return the values that fit a node, if they are few."""
        node = None if key is None else self.nodes.get(key)
        few = isinstance(node, Values) and len(node.values) <= _MAX_UNIQUE
        return node.values if isinstance(node, Values) and few else None

    def _require_listed(self) -> None:
        for key, node in self.nodes.items():
            if isinstance(node, Union):
                options = tuple(
                    self._unique_or_not(one) if isinstance(one, Arrays) else one
                    for one in node.options
                )
                self.nodes[key] = Union(options)
            elif isinstance(node, Arrays):
                self.nodes[key] = self._unique_or_not(node)

    def _unique_or_not(self, node: Arrays) -> Arrays:
        plain = not node.first and node.contains is None
        if node.unique is None or (plain and self.listed(node.rest) is not None):
            return node
        self.not_enforced(node.unique, f"items are other than {_MAX_UNIQUE} listed values at most")
        return replace(node, unique=None)

    def key(self, members: list[Member]) -> Key:
        """Return the key of what fits all of ``members``, to be read if it is new."""
        try:
            flat = self._flatten(members)
        except NothingFitsError as error:
            key: Key = ("false", error.path)
            if key not in self._known:
                self._known.add(key)
                self.nodes[key] = None
                self.reasons[key] = str(error)
            return key
        key = tuple(sorted({member.path for member in flat}))
        if key not in self._known:
            self._known.add(key)
            self._todo.append((key, flat))
        return key

    def not_enforced(self, path: str, why: str) -> None:
        """Refuse what stands at ``path``, or leave it to be checked afterwards."""
        if self.options.unsupported == "error":
            raise fault(
                path,
                f"this is not enforced: {why}",
                'Remove it, or pass unsupported="check" to have it checked by parse().',
            )
        if path not in self.unchecked:
            self.unchecked.append(path)

    def key_strings(self, members: list[Member]) -> Strings:
        """Return the strings that fit all of ``members``: what keys may be."""
        flat = self._flatten(members)
        listing = next((m for m in flat if "enum" in m.schema or "const" in m.schema), None)
        if listing is not None:
            node = self._values(flat)
            texts = tuple(Text(value) for value in node.values if isinstance(value, str))
            return Strings(listing.path, within=(Alt(texts),))
        if self._choices.find(flat) is not None:
            self.not_enforced(members[0].path, "a choice among rules for keys")
            return Strings(members[0].path)
        return self._typed.strings(flat)

    def check(self, member: Member) -> None:
        """Check a schema's own keywords, once."""
        if isinstance(member.schema, dict) and member.path not in self._checked:
            self._checked.add(member.path)
            check_keywords(member)

    def _flatten(self, members: list[Member]) -> list[Member]:
        """Return the schemas that hold, with what $ref and allOf lead to in their place."""
        flat: dict[str, Member] = {}
        stack: list[Member | str] = list(reversed(members))
        active: set[str] = set()
        done: set[str] = set()
        while stack:
            member = stack.pop()
            if isinstance(member, str):
                active.discard(member)
                done.add(member)
                continue
            if member.path in active:
                raise fault(member.path, "the reference leads back to itself without end")
            if member.path in done or member.schema is True:
                continue
            if member.schema is False:
                raise NothingFitsError(member.path, "the schema is false")
            self.check(member)
            active.add(member.path)
            stack.append(member.path)
            schema = member.schema
            if "allOf" in schema:
                stack += [member.at("allOf", i) for i in reversed(range(len(schema["allOf"])))]
            if "$ref" in schema:
                stack.append(self.document.resolve(schema["$ref"], step(member.path, "$ref")))
            own = schema.keys() - ANNOTATIONS - {"$ref", "allOf"}
            if own:
                flat[member.path] = member
        return list(flat.values())

    def _node(self, members: list[Member]) -> Node:
        if not members:
            return AnyJson()
        if any("enum" in member.schema or "const" in member.schema for member in members):
            return self._values(members)
        options = self._choices.find(members)
        if options is not None:
            keys = tuple(dict.fromkeys(self.key(option) for option in options))
            return Union(keys)
        kinds = self._kinds(members)
        nodes = [node for kind in kinds for node in self._typed.node(kind, members)]
        if not nodes:
            raise NothingFitsError(members[0].path, "no type is left")
        return nodes[0] if len(nodes) == 1 else Union(tuple(nodes))

    def _kinds(self, members: list[Member]) -> list[str]:
        """Return the types that all members allow, in the order the first one names them."""
        named = [member for member in members if "type" in member.schema]
        if not named:
            everything = [kind for kind in TYPES if kind != "integer"]
            if self.options.open:
                return everything
            kinds = {_TYPE_OF[key] for m in members for key in m.schema if key in _TYPE_OF}
            return [kind for kind in everything if kind in kinds] or everything
        found: list[str] | None = None
        for member in named:
            declared = member.schema["type"]
            kinds_here = [declared] if isinstance(declared, str) else list(dict.fromkeys(declared))
            if "number" in kinds_here and "integer" in kinds_here:
                kinds_here.remove("integer")
            if found is None:
                found = kinds_here
                continue
            found = [
                "integer" if kind == "number" and kind not in kinds_here else kind
                for kind in found
                if kind in kinds_here
                or (kind == "number" and "integer" in kinds_here)
                or (kind == "integer" and "number" in kinds_here)
            ]
        if not found:
            raise NothingFitsError(named[-1].path, "its types and those beside it exclude another")
        return found

    def _values(self, members: list[Member]) -> Values:
        """Return the listed values that fit all that holds here, by a validator's judgement."""
        listing = next(m for m in members if "enum" in m.schema or "const" in m.schema)
        schema: dict[str, Any] = listing.schema
        values = [schema["const"]] if "const" in schema else schema["enum"]
        texts = {json.dumps(value, sort_keys=True): value for value in values}
        kept = {k: v for k, v in schema.items() if k not in ("enum", "const")}
        if "const" in schema and "enum" in schema:
            kept["enum"] = schema["enum"]
        rules = [kept if member is listing else member.schema for member in members]
        rules = [rule for rule in rules if rule.keys() - ANNOTATIONS]
        fitting = tuple(texts.values())
        if any(rule.keys() - ANNOTATIONS - {"type"} for rule in rules):
            from .validate import Validator  # which is slow to import

            validator = Validator(self.document)
            fitting = tuple(v for v in fitting if all(validator.accepts(r, v) for r in rules))
        else:
            fitting = tuple(v for v in fitting if all(_is_of(r["type"], v) for r in rules))
        if not fitting:
            word = "const" if "const" in schema else "enum"
            path = step(listing.path, word)
            if len(members) == 1:
                raise fault(path, "nothing fits: no value fits the keywords beside it")
            raise NothingFitsError(path, "no value fits what else holds here")
        return Values(fitting)


def _is_of(declared: Any, value: Any) -> bool:
    kinds = {declared} if isinstance(declared, str) else set(declared)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return bool(kinds & {"integer", "number"})
    names = {bool: "boolean", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null") in kinds
