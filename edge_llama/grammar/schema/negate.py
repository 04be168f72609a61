"""The opposite of a schema as alternatives, where it can be said in enforced keywords."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .document import Member, step
from .keywords import ANNOTATIONS, TYPES

if TYPE_CHECKING:
    from .reader import Reader

_MAX_DEPTH = 12
_BOUNDS = {
    "minimum": ("number", "exclusiveMaximum"),
    "maximum": ("number", "exclusiveMinimum"),
    "exclusiveMinimum": ("number", "maximum"),
    "exclusiveMaximum": ("number", "minimum"),
}
_COUNTS = {
    "minLength": ("string", "maxLength", -1),
    "maxLength": ("string", "minLength", 1),
    "minItems": ("array", "maxItems", -1),
    "maxItems": ("array", "minItems", 1),
    "minProperties": ("object", "maxProperties", -1),
    "maxProperties": ("object", "minProperties", 1),
}


#: With a schema that everything fits, these say nothing.
_VACUOUS = frozenset(
    ["additionalProperties", "items", "propertyNames", "unevaluatedItems", "unevaluatedProperties"]
)


def negate(reader: Reader, member: Member, depth: int = 0) -> list[Any] | None:
    """Return schemas of which one fits exactly what ``member`` does not; None if unknown.

    Only non-integer numbers are left out where an integer is excluded as a type.
    """
    if depth > _MAX_DEPTH:
        return None
    schema = member.schema
    if isinstance(schema, bool):
        return [not schema]
    reader.check(member)
    found: list[Any] = []
    for keyword, value in schema.items():
        if keyword in ANNOTATIONS:
            continue
        parts = _keyword(reader, member, keyword, value, depth)
        if parts is None:
            return None
        found += parts
    return found or [False]


def _keyword(  # noqa: C901, PLR0911, PLR0912 - one line per keyword
    reader: Reader, member: Member, keyword: str, value: Any, depth: int
) -> list[Any] | None:
    if keyword == "type":
        taken = {value} if isinstance(value, str) else set(value)
        if "number" in taken:
            taken.add("integer")
        left = [kind for kind in TYPES if kind not in taken]
        if "integer" in left and "number" in left:
            left.remove("integer")
        elif "number" in left:
            left.remove("number")  # what is no integer, but a number: cannot be said
        return [{"type": left}] if left else []
    if keyword in ("const", "enum"):
        values = [value] if keyword == "const" else value
        if any(isinstance(one, list | dict) for one in values):
            return None
        return [{"not": {"enum": values}}]
    if keyword == "required":
        return [{"type": "object", "properties": {name: False}} for name in value]
    if keyword == "properties":
        return _properties(reader, member, value, depth)
    if keyword in _BOUNDS:
        kind, other = _BOUNDS[keyword]
        return [{"type": kind, other: value}]
    if keyword in _COUNTS:
        kind, other, by = _COUNTS[keyword]
        return [{"type": kind, other: int(value) + by}] if value + by >= 0 else []
    if keyword == "pattern":
        return [{"type": "string", "not": {"pattern": value}}]
    if keyword == "not":
        return [value]
    if keyword == "uniqueItems" and not value:
        return []
    if keyword == "contains" and not member.schema.keys() & {"minContains", "maxContains"}:
        parts = negate(reader, member.at("contains"), depth + 1)
        return None if parts is None else [{"type": "array", "items": {"anyOf": parts}}]
    if keyword == "allOf":
        parts = [negate(reader, member.at("allOf", i), depth + 1) for i in range(len(value))]
        return None if None in parts else [one for part in parts for one in part or []]
    if keyword == "anyOf":
        parts = [negate(reader, member.at("anyOf", i), depth + 1) for i in range(len(value))]
        return None if None in parts else [{"allOf": [{"anyOf": part} for part in parts]}]
    if keyword == "$ref":
        target = reader.document.resolve(value, step(member.path, "$ref"))
        return negate(reader, target, depth + 1)
    vacuous = keyword in _VACUOUS and (value is True or value == {})
    return [] if vacuous else None


def _properties(
    reader: Reader, member: Member, value: dict[str, Any], depth: int
) -> list[Any] | None:
    found: list[Any] = []
    for name in value:
        parts = negate(reader, member.at("properties", name), depth + 1)
        if parts is None:
            return None
        found += [
            {"type": "object", "required": [name], "properties": {name: part}} for part in parts
        ]
    return found
