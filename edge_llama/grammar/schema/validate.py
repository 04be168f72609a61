"""Whether a value fits a schema, by the jsonschema package, with what it leaves open made exact.

Patterns are matched by llguidance, in linear time; multipleOf is decimal; formats assert.
"""

from __future__ import annotations

import functools
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

from jsonschema import (  # type: ignore[import-untyped]
    Draft202012Validator,
    FormatChecker,
    ValidationError,
    validators,
)

from .document import step
from .formats import FORMATS
from .languages import matches, pattern_language

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .document import Document


def _found(pattern: str, value: str) -> bool:
    return matches(pattern_language(pattern, "$"), value)


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not _found(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _format(_: Any, name: str, value: Any, __: Any) -> Iterator[ValidationError]:
    known = FORMATS.get(name)
    if known is not None:
        fits = not isinstance(value, str) or matches(known.language(), value)
    else:
        fits = FormatChecker().conforms(value, name)
    if not fits:
        yield ValidationError(f"{value!r} is no {name}")


def _multiple_of(_: Any, divisor: float, value: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        with localcontext() as context:
            context.prec = 700
            if Decimal(str(value)) % Decimal(str(divisor)) != 0:
                yield ValidationError(f"{value!r} is not a multiple of {divisor!r}")


def _pattern_properties(
    validator: Any, patterns: dict[str, Any], value: Any, _: Any
) -> Iterator[ValidationError]:
    if isinstance(value, dict):
        for pattern, schema in patterns.items():
            for key, one in value.items():
                if _found(pattern, key):
                    yield from validator.descend(one, schema, path=key, schema_path=pattern)


def _additional(
    validator: Any, allowed: Any, value: Any, schema: dict[str, Any]
) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    patterns = schema.get("patternProperties", {})
    for key, one in value.items():
        if key in schema.get("properties", {}) or any(_found(p, key) for p in patterns):
            continue
        if allowed is False:
            yield ValidationError(f"the key {key!r} is not allowed")
        else:
            yield from validator.descend(one, allowed, path=key)


_Validator = validators.extend(
    Draft202012Validator,
    {
        "pattern": _pattern,
        "format": _format,
        "multipleOf": _multiple_of,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional,
    },
)


class Validator:
    """Judges values by the schemas of one document."""

    def __init__(self, document: Document) -> None:
        root = document.root.schema
        if isinstance(root, dict):  # one dialect, and its own references only
            root = {k: v for k, v in root.items() if k != "$schema"}
        self._validator = _Validator(root)

    def accepts(self, schema: Any, value: Any) -> bool:
        """Tell whether ``value`` fits a schema out of the document."""
        return bool(self._validator.evolve(schema=schema).is_valid(value))

    def fault(self, value: Any) -> tuple[str, str] | None:
        """Return the JSON path and the words for the first thing wrong with a value."""
        for error in self._validator.iter_errors(value):
            path = functools.reduce(step, error.absolute_path, "$")
            return path, error.message
        return None
