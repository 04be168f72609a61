"""Keywords that leave a choice, rewritten as alternatives: anyOf, oneOf, if, not, dependent*."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .document import DERIVED, Member, fault, step
from .keywords import ANNOTATIONS
from .negate import negate

if TYPE_CHECKING:
    from .reader import Reader

#: Alternatives that one keyword may come down to.
_MAX_OPTIONS = 256
#: Pairs of options of a oneOf that are kept apart by denying the other.
_MAX_OVERLAPS = 60
_ORDER = ("anyOf", "oneOf", "if", "dependentRequired", "dependentSchemas", "not")


class Choices:
    """Finds the alternatives among schemas that hold together."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def find(self, members: list[Member]) -> list[list[Member]] | None:
        """Return lists of members of which one must hold whole; None if nothing is to choose."""
        for keyword in _ORDER:
            for index, member in enumerate(members):
                if keyword not in member.schema:
                    continue
                if keyword == "not" and is_plain_not(member.schema["not"]):
                    continue
                options = getattr(self, f"_{keyword.lower()}")(member)
                if len(options) > _MAX_OPTIONS:
                    raise fault(step(member.path, keyword), f"more than {_MAX_OPTIONS} cases")
                drop = {keyword, "then", "else"} if keyword == "if" else {keyword}
                kept = {k: v for k, v in member.schema.items() if k not in drop}
                rest = list(members)
                rest[index] = Member(kept, f"{member.path}{DERIVED}{keyword}")
                if not kept.keys() - ANNOTATIONS:
                    del rest[index]
                return [[*rest, *option] for option in options]
        return None

    def _anyof(self, member: Member) -> list[list[Member]]:
        return [[member.at("anyOf", i)] for i in range(len(member.schema["anyOf"]))]

    def _oneof(self, member: Member) -> list[list[Member]]:
        options = [member.at("oneOf", i) for i in range(len(member.schema["oneOf"]))]
        path = step(member.path, "oneOf")
        tag = member.schema.get("discriminator")
        if isinstance(tag, dict) and isinstance(tag.get("propertyName"), str):
            needed = Member({"required": [tag["propertyName"]]}, f"{path}{DERIVED}tag")
            return [[option, needed] for option in options]
        facts = [self._facts(option) for option in options]
        pairs = ((one, two) for i, one in enumerate(facts) for two in facts[i + 1 :])
        if sum(not _apart(one, two) for one, two in pairs) > _MAX_OVERLAPS:
            self._reader.not_enforced(path, f"more than {_MAX_OVERLAPS} pairs may both fit")
            return [[option] for option in options]
        found = []
        for index, option in enumerate(options):
            others: list[Member] = []
            for other, rival in enumerate(options):
                if other == index or _apart(facts[index], facts[other]):
                    continue
                denied = negate(self._reader, rival)
                if denied is None:
                    self._reader.not_enforced(
                        path, f"options {min(index, other)} and {max(index, other)} may both fit"
                    )
                    continue
                others.append(Member({"anyOf": denied}, f"{path}[{other}]{DERIVED}not"))
            found.append([option, *others])
        return found

    def _if(self, member: Member) -> list[list[Member]]:
        path = step(member.path, "if")
        condition = member.at("if")
        schema = member.schema
        then = [member.at("then")] if "then" in schema else []
        otherwise = [member.at("else")] if "else" in schema else []
        if not then and not otherwise:
            return [[]]
        denied = negate(self._reader, condition)
        if denied is None:
            self._reader.not_enforced(path, "the condition is too complex to be negated")
            return [[]]
        unless = Member({"anyOf": denied}, f"{path}{DERIVED}not")
        return [[condition, *then], [unless, *otherwise]]

    def _not(self, member: Member) -> list[list[Member]]:
        path = step(member.path, "not")
        denied = negate(self._reader, member.at("not"))
        if denied is None:
            self._reader.not_enforced(path, "the schema is too complex to be negated")
            return [[]]
        return [[Member(option, f"{path}{DERIVED}{i}")] for i, option in enumerate(denied)]

    def _dependentrequired(self, member: Member) -> list[list[Member]]:
        path = step(member.path, "dependentRequired")
        cases: list[list[Member]] = [[]]
        for name, needs in member.schema["dependentRequired"].items():
            below = step(path, name)
            absent = Member({"properties": {name: False}}, f"{below}{DERIVED}absent")
            present = Member({"required": [name, *needs]}, f"{below}{DERIVED}present")
            cases = [[*case, one] for case in cases for one in (absent, present)]
            if len(cases) > _MAX_OPTIONS:
                raise fault(path, f"more than {_MAX_OPTIONS} cases")
        return cases

    def _dependentschemas(self, member: Member) -> list[list[Member]]:
        path = step(member.path, "dependentSchemas")
        cases: list[list[Member]] = [[]]
        for name in member.schema["dependentSchemas"]:
            below = step(path, name)
            absent = Member({"properties": {name: False}}, f"{below}{DERIVED}absent")
            present = Member({"required": [name]}, f"{below}{DERIVED}present")
            held = member.at("dependentSchemas", name)
            cases = [[*case, *one] for case in cases for one in ([absent], [present, held])]
            if len(cases) > _MAX_OPTIONS:
                raise fault(path, f"more than {_MAX_OPTIONS} cases")
        return cases

    def _facts(self, option: Member) -> tuple[set[str], dict[str, set[str]]]:
        """Return an option's types, and the values of required keys that are listed."""
        reader = self._reader
        reader.check(option)
        schema = option.schema
        for _ in range(20):
            if not isinstance(schema, dict) or "$ref" not in schema:
                break
            target = reader.document.resolve(schema["$ref"], step(option.path, "$ref"))
            reader.check(target)
            merged = {**target.schema} if isinstance(target.schema, dict) else {}
            schema = merged if not schema.keys() - ANNOTATIONS - {"$ref"} else {}
        if not isinstance(schema, dict):
            return set(), {}
        declared: Any = schema.get("type", [])
        types = {declared} if isinstance(declared, str) else set(declared)
        if "const" in schema:
            types = {_type_name(schema["const"])}
        listed: dict[str, set[str]] = {"": _listed(schema)} if _listed(schema) else {}
        if types == {"object"}:
            properties = schema.get("properties", {})
            for name in schema.get("required", []):
                below = properties.get(name)
                if isinstance(below, dict) and _listed(below):
                    listed[name + "."] = _listed(below)
        return types, listed


def is_plain_not(schema: Any) -> bool:
    """Tell whether ``not`` excludes only values or a pattern, which strings and numbers can do."""
    if not isinstance(schema, dict):
        return False
    own = schema.keys() - ANNOTATIONS
    if own in ({"enum"}, {"const"}):
        values = schema.get("enum", [schema.get("const")])
        return not any(isinstance(value, list | dict) for value in values)
    return own == {"pattern"}


def _listed(schema: dict[str, Any]) -> set[str]:
    values = [schema["const"]] if "const" in schema else schema.get("enum", [])
    whole = [
        int(value) if isinstance(value, float) and value.is_integer() else value for value in values
    ]
    return {json.dumps(value, sort_keys=True) for value in whole}


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return names.get(type(value), "object")


def _apart(
    one: tuple[set[str], dict[str, set[str]]], two: tuple[set[str], dict[str, set[str]]]
) -> bool:
    """Tell whether no value fits both."""
    if one[0] and two[0]:
        numeric = {"integer", "number"}
        both = one[0] & two[0] or (one[0] & numeric and two[0] & numeric)
        if not both:
            return True
    return any(one[1][name].isdisjoint(two[1][name]) for name in one[1].keys() & two[1].keys())
