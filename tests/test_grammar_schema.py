"""The contract of JSON Schema: every keyword is enforced, or refused by its path."""

from __future__ import annotations

import functools
import json
import random
from decimal import Decimal
from typing import Any

import jsonschema
import numpy as np
import pytest
from grammars import BYTES, accepts, check, mutated, refused, walk, written

from edge_llama.errors import GrammarError, IncompleteError, InvalidOutputError
from edge_llama.grammar import Grammar, compile_grammar

POOL: list[Any] = [
    *(None, True, False, 0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 15, 20, 100, -1, -3, -5, -10),
    *(0.5, 1.5, 2.25, 3.5, 9.99, -0.5, -2.75, 0.01, 0.001, 1000000),
    *("", "a", "b", "c", "ab", "abc", "abcd", "aaaa", "x1", "é", "A", "ba", "b7", "a b", '"', "\\"),
    *("2024-02-29", "2023-02-29", "1900-02-29", "2000-02-29", "2023-04-31", "12:00:00Z"),
    *("2024-01-31T23:59:59.5+02:00", "2024-01-31 23:59:59Z", "P1Y2M3DT4H5M6S", "P", "PT", "P3W"),
    *("a.b@c.de", "a@b", "@c.de", "www.example.com", "-a.b", "1.2.3.4", "1.2.3.256", "::1", "1::2::3"),
    *("https://a.b/c?d=e#f", "a b c", "123e4567-e89b-12d3-a456-426614174000", "/a/~1", "/a/~2"),
    *([], [1], [2], [1, 2], [1, 1], [1, 2, 3], [5, 5, 1], [1, 2, 3, 4, 5], ["a"], ["a", "b"]),
    *(["a", "a"], [None], [None, 1], [1, "a"], [True, 1], [[1]], [[]], [{}], [{"a": 1}]),
    *({}, {"a": 1}, {"a": "x"}, {"a": None}, {"b": 1}, {"b": 12}, {"c": True}, {"x": 1}, {"y": 9}),
    *({"a": 1, "b": 2}, {"a": 1, "b": 12}, {"a": "x", "b": "y"}, {"a": 1, "c": None}, {"xy": 1}),
    *({"xy": 7}, {"a": 1, "b": 2, "c": 3}, {"a": {"a": 1}}, {"a": [1]}, {"b": {"a": {}}}, {"": 0}),
    *({"a": 1, "b": "x", "c": None}, {"k": "p", "v": 1}, {"k": "q", "v": 1}, {"k": "p"}, {"k": "q"}),
]  # fmt: skip

NULLS = {"a": {"type": "null"}, "b": {"type": "integer"}, "c": {}}
ATOMS: dict[str, list[dict[str, Any]]] = {
    "integer": [
        *({"minimum": 3}, {"maximum": 7}, {"exclusiveMinimum": -5}, {"exclusiveMaximum": 5}),
        *({"minimum": -3, "maximum": 12}, {"multipleOf": 3}, {"multipleOf": 2.5}, {"minimum": 2.5}),
        *({"enum": [1, 5, 100]}, {"const": 7}, {"not": {"const": 3}}, {"not": {"minimum": 4}}),
        {"maximum": -3},
    ],
    "number": [
        *({"minimum": 0.5}, {"maximum": 2.25}, {"exclusiveMinimum": 0.5}, {"exclusiveMaximum": 0}),
        *({"minimum": -2.75, "maximum": 9.99}, {"multipleOf": 0.01}, {"multipleOf": 0.5}),
        *({"enum": [1.5, 2, -0.5]}, {"const": 0.5}, {"not": {"enum": [1.5, 1]}}),
        {"exclusiveMinimum": 9, "exclusiveMaximum": 10},
    ],
    "string": [
        *({"minLength": 2}, {"maxLength": 2}, {"minLength": 1, "maxLength": 3}, {"pattern": "b"}),
        *({"pattern": "^a"}, {"pattern": "b$"}, {"pattern": "^[a-c]*$"}, {"pattern": "^(a|b\\d)$"}),
        *({"enum": ["a", "é"]}, {"const": "ab"}, {"not": {"enum": ["a"]}}, {"not": {"pattern": "a"}}),
        *({"format": name} for name in ("date", "date-time", "email", "hostname", "ipv4", "ipv6")),
        *({"format": name} for name in ("uuid", "duration", "json-pointer", "uri", "time")),
    ],  # fmt: skip
    "array": [
        *({"items": {"type": "integer"}}, {"minItems": 2}, {"maxItems": 1}, {"items": False}),
        *({"prefixItems": [{"type": "integer"}]}, {"prefixItems": [{}, {"type": "string"}]}),
        *({"prefixItems": [{"type": "null"}], "items": {"type": "integer"}}, {"maxItems": 0}),
        *({"prefixItems": [{"const": 1}], "items": False, "minItems": 1}, {"contains": {"const": 5}}),
        *({"contains": {"const": 5}, "maxContains": 1}, {"contains": {"minimum": 2}, "minContains": 2}),
        *({"contains": {"const": 1}, "minItems": 2, "maxItems": 3}, {"contains": False, "minContains": 0}),
        *({"items": {"enum": [1, 2, "a", "b"]}, "uniqueItems": True}, {"uniqueItems": False}),
        *({"const": [1, 2]}, {"enum": [[], ["a"]]}, {"unevaluatedItems": {"type": "string"}}),
        {"items": [{"type": "integer"}], "additionalItems": {"type": "integer"}},
    ],  # fmt: skip
    "object": [
        *({"properties": NULLS}, {"required": ["a"]}, {"required": ["b", "a"]}, {"minProperties": 1}),
        *({"properties": NULLS, "additionalProperties": False}, {"maxProperties": 1}),
        *({"additionalProperties": {"type": "integer"}}, {"additionalProperties": False}),
        *({"properties": {"a": {}}, "additionalProperties": {"type": "string"}}, {"maxProperties": 0}),
        *({"patternProperties": {"^x": {"type": "string"}}}, {"propertyNames": {"maxLength": 1}}),
        *({"patternProperties": {"^x": {}, "y$": {"minimum": 5}}, "additionalProperties": False},),
        *({"propertyNames": {"enum": ["a", "b"]}}, {"dependentRequired": {"a": ["b"]}}),
        *({"dependentSchemas": {"a": {"required": ["c"]}}}, {"dependencies": {"b": ["a"]}}),
        *({"properties": NULLS, "minProperties": 2, "additionalProperties": False},),
        *({"properties": NULLS, "required": ["c"], "maxProperties": 2, "additionalProperties": False},),
        *({"const": {"a": 1}}, {"enum": [{}, {"a": {"a": 1}}]}, {"not": {"required": ["a"]}}),
        *({"properties": {"a": {}}, "unevaluatedProperties": {"type": "integer"}},),
        {
            "properties": {"k": {"enum": ["p", "q"]}, "v": {"type": "integer"}},
            "if": {"properties": {"k": {"const": "p"}}, "required": ["k"]},
            "then": {"required": ["v"]},
            "else": {"properties": {"v": False}},
        },
    ],  # fmt: skip
}


def schemas() -> list[dict[str, Any]]:
    """Each keyword alone, in pairs by allOf, anyOf and oneOf, negated, nested and referred to."""
    rng = random.Random(5)
    found: list[dict[str, Any]] = [{}, *({"type": kind} for kind in (*ATOMS, "null", "boolean"))]
    found += [{"type": ["integer", "null"]}, {"enum": [1, "a", None, [1], {"a": 1}]}]
    for kind, atoms in ATOMS.items():
        typed = [{"type": kind, **atom} for atom in atoms]
        found += typed
        for one in typed:
            other = rng.choice(typed)
            found.append({"allOf": [one, other]})
            found.append({"anyOf": [one, rng.choice(typed)]})
            found.append({"type": "object", "properties": {"a": one}, "required": ["a"]})
            found.append({"type": "array", "items": {"$ref": "#/$defs/d"}, "$defs": {"d": one}})
        for atom in rng.sample(atoms, 5):
            found.append({"type": kind, "oneOf": [atom, rng.choice(atoms)]})
            found.append({"type": kind, "not": atom})
            found.append({"type": kind, "if": atom, "then": rng.choice(atoms)})
    return found


def multiple_of(_: Any, divisor: Any, value: Any, __: Any) -> Any:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if numeric and Decimal(str(value)) % Decimal(str(divisor)):
        yield jsonschema.ValidationError("no multiple")  # exact, unlike the package's own


FORMATS = jsonschema.FormatChecker()
# The package's own checks of these need further packages, or are laxer than the RFC.
ORACLES = {
    "time": r"\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    "date-time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    "hostname": r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?",
    "email": r"[^@ ]+@[^@ ]+\.[^@ ]+",
    "duration": r"P(?!$)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?|P\d+W",
    "uri": r"[A-Za-z][A-Za-z0-9+.-]*://\S+",
    "json-pointer": r"(/([^~/]|~[01])*)*",
}


def form(_: Any, name: str, value: Any, __: Any) -> Any:
    import re

    if not isinstance(value, str):
        return
    pattern = ORACLES.get(name)
    if not (re.fullmatch(pattern, value) if pattern else FORMATS.conforms(value, name)):
        yield jsonschema.ValidationError(f"no {name}")


@functools.cache
def oracle_class() -> Any:
    own = {"multipleOf": multiple_of, "format": form}
    return jsonschema.validators.extend(jsonschema.Draft202012Validator, own)


def oracle(schema: dict[str, Any]) -> Any:
    return oracle_class()(modern(schema))


def modern(schema: Any) -> Any:
    """The two older spellings among ATOMS, as 2020-12 has them."""
    if isinstance(schema, list):
        return [modern(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "additionalItems" in schema:
        rest = {k: v for k, v in schema.items() if k not in ("items", "additionalItems")}
        return {**rest, "prefixItems": schema["items"], "items": schema["additionalItems"]}
    if "dependencies" in schema:
        rest = {k: v for k, v in schema.items() if k != "dependencies"}
        return {**rest, "dependentRequired": schema["dependencies"]}
    return {key: modern(value) for key, value in schema.items()}


# The conformance of all: walks give valid values; of a pool, and of what is one character away
# from a walk, exactly the valid values are accepted.
def test_every_keyword_is_enforced_or_refused_by_name() -> None:
    rng, chance = np.random.default_rng(3), random.Random(3)
    enforced, refusals = 0, 0
    for schema in schemas():
        try:
            grammar = Grammar.json_schema(schema, open=True)
        except GrammarError as error:
            assert error.path, (schema, error)
            assert error.path.startswith("$"), (schema, error)
            judge = oracle(schema)
            if "nothing fits" in str(error):
                assert not any(judge.is_valid(value) for value in POOL), (schema, str(error))
            refusals += "not enforced" in str(error)
            continue
        enforced += 1
        judge = oracle(schema)
        compiled = compile_grammar(grammar, BYTES)
        texts = [walk(compiled, rng) for _ in range(4)]
        for text in texts:
            if text is not None:
                assert judge.is_valid(json.loads(text)), (schema, text)
                assert grammar.parse(text) == json.loads(text)
        for value in POOL:
            taken = any(accepts(grammar, text) for text in written(value))
            assert taken == judge.is_valid(value), (schema, value, taken)
        for text in [mutated(text, chance) for text in texts if text for _ in range(3)]:
            if accepts(grammar, text):
                assert judge.is_valid(json.loads(text)), (schema, text)
    assert enforced > 400
    assert refusals < 60
