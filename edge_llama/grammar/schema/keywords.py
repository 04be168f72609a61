"""Each keyword of JSON Schema 2020-12: what its value must be, and whether it is enforced."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .document import fault, step

if TYPE_CHECKING:
    from collections.abc import Callable

    from .document import Member

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")

#: They describe or name; nothing is asserted. Some are OpenAPI's; so is all that begins with x-.
ANNOTATIONS = frozenset(
    [
        "$anchor",
        "$comment",
        "$defs",
        "$id",
        "$schema",
        "$vocabulary",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
        "default",
        "definitions",
        "deprecated",
        "description",
        "discriminator",
        "example",
        "externalDocs",
        "examples",
        "readOnly",
        "title",
        "writeOnly",
    ]
)


def _is_count(value: object) -> bool:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool) and value >= 0  # type: ignore[operator]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_schema(value: object) -> bool:
    return isinstance(value, dict | bool)


def _is_type(value: object) -> bool:
    return value in TYPES or (
        isinstance(value, list) and bool(value) and all(one in TYPES for one in value)
    )


def _is_map(of: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and all(map(of, value.values()))


def _is_list(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_schema, value))


_COUNT = (_is_count, "a whole number from 0")
_NUMBER = (_is_number, "a number")
_SCHEMA = (_is_schema, "a schema: an object or a boolean")
_SCHEMAS = (_is_list, "a list of schemas, and not an empty one")
_BY_NAME = (_is_map(_is_schema), "an object of schemas")
_STRING = (lambda value: isinstance(value, str), "a string")
_NAMES = (_is_names, "a list of strings")

#: What is enforced, and what its value must be.
ENFORCED: dict[str, tuple[Callable[[object], bool], str]] = {
    "$ref": _STRING,
    "additionalProperties": _SCHEMA,
    "allOf": _SCHEMAS,
    "anyOf": _SCHEMAS,
    "const": (lambda _: True, "anything"),
    "contains": _SCHEMA,
    "dependentRequired": (_is_map(_is_names), "an object of lists of strings"),
    "dependentSchemas": _BY_NAME,
    "else": _SCHEMA,
    "enum": (lambda value: isinstance(value, list) and bool(value), "a list, and not an empty one"),
    "exclusiveMaximum": _NUMBER,
    "exclusiveMinimum": _NUMBER,
    "format": _STRING,
    "if": _SCHEMA,
    "items": _SCHEMA,
    "maxContains": _COUNT,
    "maxItems": _COUNT,
    "maxLength": _COUNT,
    "maxProperties": _COUNT,
    "maximum": _NUMBER,
    "minContains": _COUNT,
    "minItems": _COUNT,
    "minLength": _COUNT,
    "minProperties": _COUNT,
    "minimum": _NUMBER,
    "multipleOf": (
        lambda value: _is_number(value) and value > 0,  # type: ignore[operator]
        "a number above 0",
    ),
    "not": _SCHEMA,
    "oneOf": _SCHEMAS,
    "pattern": _STRING,
    "patternProperties": _BY_NAME,
    "prefixItems": _SCHEMAS,
    "properties": _BY_NAME,
    "propertyNames": _SCHEMA,
    "required": _NAMES,
    "then": _SCHEMA,
    "type": (_is_type, f"one of {', '.join(TYPES)}, or a list of them"),
    "unevaluatedItems": _SCHEMA,
    "unevaluatedProperties": _SCHEMA,
    "uniqueItems": (lambda value: isinstance(value, bool), "true or false"),
}

_HINTS = {
    "$dynamicRef": "Use $ref.",
    "$dynamicAnchor": "Use $defs and $ref.",
    "$recursiveRef": "Use $ref.",
    "$recursiveAnchor": "Use $defs and $ref.",
    "nullable": 'It is OpenAPI 3.0\'s; write "type": ["string", "null"].',
    "id": "Write $id.",
    "additionalItems": "Write prefixItems and items.",
    "dependencies": "Write dependentRequired or dependentSchemas.",
}


def check_keywords(member: Member) -> None:
    """Check one schema's own keywords: all known, each with a value that makes sense.

    Raises:
        GrammarError: names the path of the keyword.
    """
    schema: dict[str, Any] = member.schema
    for key, value in schema.items():
        path = step(member.path, key)
        if key in ENFORCED:
            accepts, what = ENFORCED[key]
            if not accepts(value):
                raise fault(path, f"its value must be {what}")
        elif key not in ANNOTATIONS:
            hint = _HINTS.get(key, "Remove it, or correct its spelling.")
            raise fault(
                path,
                "this keyword is not supported" if key in _HINTS else "this keyword is not known",
                hint,
            )
    for low, high in (
        ("minLength", "maxLength"),
        ("minItems", "maxItems"),
        ("minProperties", "maxProperties"),
        ("minContains", "maxContains"),
        ("minimum", "maximum"),
    ):
        if low in schema and high in schema and schema[low] > schema[high]:
            raise fault(
                step(member.path, low),
                f"nothing fits: {low} {schema[low]} is more than {high} {schema[high]}",
            )
