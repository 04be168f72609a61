"""The contract of JSON Schema: every keyword is enforced, or refused by its path."""

from __future__ import annotations

import functools
import json
import random
from decimal import Decimal
from typing import Any

import jsonschema  # type: ignore[import-untyped]
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
        *(
            {"enum": ["a", "é"]},
            {"const": "ab"},
            {"not": {"enum": ["a"]}},
            {"not": {"pattern": "a"}},
        ),
        *({"format": name} for name in ("date", "date-time", "email", "hostname", "ipv4", "ipv6")),
        *({"format": name} for name in ("uuid", "duration", "json-pointer", "uri", "time")),
    ],
    "array": [
        *({"items": {"type": "integer"}}, {"minItems": 2}, {"maxItems": 1}, {"items": False}),
        *({"prefixItems": [{"type": "integer"}]}, {"prefixItems": [{}, {"type": "string"}]}),
        *({"prefixItems": [{"type": "null"}], "items": {"type": "integer"}}, {"maxItems": 0}),
        *(
            {"prefixItems": [{"const": 1}], "items": False, "minItems": 1},
            {"contains": {"const": 5}},
        ),
        *(
            {"contains": {"const": 5}, "maxContains": 1},
            {"contains": {"minimum": 2}, "minContains": 2},
        ),
        *(
            {"contains": {"const": 1}, "minItems": 2, "maxItems": 3},
            {"contains": False, "minContains": 0},
        ),
        *({"items": {"enum": [1, 2, "a", "b"]}, "uniqueItems": True}, {"uniqueItems": False}),
        *({"const": [1, 2]}, {"enum": [[], ["a"]]}, {"unevaluatedItems": {"type": "string"}}),
        {"items": [{"type": "integer"}], "additionalItems": {"type": "integer"}},
    ],
    "object": [
        *(
            {"properties": NULLS},
            {"required": ["a"]},
            {"required": ["b", "a"]},
            {"minProperties": 1},
        ),
        *({"properties": NULLS, "additionalProperties": False}, {"maxProperties": 1}),
        *({"additionalProperties": {"type": "integer"}}, {"additionalProperties": False}),
        *(
            {"properties": {"a": {}}, "additionalProperties": {"type": "string"}},
            {"maxProperties": 0},
        ),
        *({"patternProperties": {"^x": {"type": "string"}}}, {"propertyNames": {"maxLength": 1}}),
        *({"patternProperties": {"^x": {}, "y$": {"minimum": 5}}, "additionalProperties": False},),
        *({"propertyNames": {"enum": ["a", "b"]}}, {"dependentRequired": {"a": ["b"]}}),
        *({"dependentSchemas": {"a": {"required": ["c"]}}}, {"dependencies": {"b": ["a"]}}),
        *({"properties": NULLS, "minProperties": 2, "additionalProperties": False},),
        *(
            {
                "properties": NULLS,
                "required": ["c"],
                "maxProperties": 2,
                "additionalProperties": False,
            },
        ),
        *({"const": {"a": 1}}, {"enum": [{}, {"a": {"a": 1}}]}, {"not": {"required": ["a"]}}),
        *({"properties": {"a": {}}, "unevaluatedProperties": {"type": "integer"}},),
        {
            "properties": {"k": {"enum": ["p", "q"]}, "v": {"type": "integer"}},
            "if": {"properties": {"k": {"const": "p"}}, "required": ["k"]},
            "then": {"required": ["v"]},
            "else": {"properties": {"v": False}},
        },
    ],
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
            nested = {"type": "object", "properties": {"a": one}, "required": ["a"]}
            referred = {"type": "array", "items": {"$ref": "#/$defs/d"}, "$defs": {"d": one}}
            found.append(rng.choice([nested, referred]))
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
            assert error.path, (schema, error)  # noqa: PT017 - either is fine, but an error must be whole
            assert error.path.startswith("$"), (schema, error)  # noqa: PT017 - either is fine, but an error must be whole
            judge = oracle(schema)
            if "nothing fits" in str(error):
                assert not any(judge.is_valid(value) for value in POOL), (schema, str(error))  # noqa: PT017 - either is fine, but an error must be whole
            refusals += "not enforced" in str(error)
            continue
        enforced += 1
        judge = oracle(schema)
        compiled = compile_grammar(grammar, BYTES)
        texts = [walk(compiled, rng, 150) for _ in range(3)]
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
    assert enforced > 350
    assert refusals < 60


REFUSED = [
    ("$.properties.email.format", {"properties": {"email": {"type": "string", "format": "idn"}}}),
    ("$.propertis", {"type": "object", "propertis": {}}),
    ("$.nullable", {"type": "string", "nullable": True}),
    ("$.$dynamicRef", {"$dynamicRef": "#x"}),
    ("$.type", {"type": "strin"}),
    ("$.items", {"items": 5}),
    ("$.minLength", {"minLength": -1}),
    ("$.minLength", {"type": "string", "minLength": 3, "maxLength": 2}),
    ("$.minimum", {"type": "number", "minimum": 3, "maximum": 2}),
    ("$.minimum", {"type": "integer", "minimum": 1.2, "maximum": 1.8}),
    ("$.exclusiveMinimum", {"type": "number", "exclusiveMinimum": 1, "maximum": 1}),
    ("$.multipleOf", {"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 6}),
    ("$.multipleOf", {"type": "integer", "multipleOf": 0}),
    ("$.enum", {"enum": []}),
    ("$.enum", {"type": "integer", "enum": ["a"]}),
    ("$.const", {"type": "string", "const": 5}),
    ("$.const", {"type": "string", "maxLength": 2, "const": "abc"}),
    ("$.required", {"properties": {"a": {}}, "required": ["b"], "additionalProperties": False}),
    ("$.required", {"properties": {"a": False}, "required": ["a"]}),
    ("$.minProperties", {"properties": {"a": {}}, "minProperties": 2, "additionalProperties": False}),
    ("$.minItems", {"type": "array", "prefixItems": [{}], "items": False, "minItems": 2}),
    ("$.pattern", {"type": "string", "pattern": "^a{5}$", "maxLength": 4}),
    ("$.pattern", {"type": "string", "pattern": "(a"}),
    ("$.pattern", {"type": "string", "pattern": "^(?=a)b"}),
    ("$.pattern", {"type": "string", "pattern": "(a)\\1"}),
    ("$.pattern", {"type": "string", "pattern": "\\bword"}),
    ("$.properties.a.pattern", {"properties": {"a": {"type": "string", "pattern": "a**"}}}),
    ("$", {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
    ("$.$ref", {"$ref": "https://example.com/schema.json"}),
    ("$.$ref", {"$ref": "other.json#/a"}),
    ("$.$ref", {"$ref": "file:///etc/passwd"}),
    ("$.$ref", {"$ref": "#/$defs/missing"}),
    ("$.$defs.a", {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
    ("$.uniqueItems", {"type": "array", "items": {"type": "string"}, "uniqueItems": True}),
    ("$.additionalProperties.uniqueItems", {"additionalProperties": {"type": "array", "uniqueItems": True}}),
    ("$.not", {"type": "object", "not": {"propertyNames": {"maxLength": 1}}}),
    ("$.unevaluatedProperties", {"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False}),
    ("$.properties.a.$id", {"properties": {"a": {"$id": "b"}}}),
    ("$.$id", {"$id": 5}),
    ("$.items", {"prefixItems": [{}], "items": [{}]}),
    ("$.allOf[1]", {"allOf": [{"type": "string"}, {"type": "integer"}]}),
    ("$", False),
    ("$", 5),
    ("$", '{"type": "string"'),
    ("$", '{"type": "string", "type": "integer"}'),
    ("$", b"\xff{}"),
    (
        "$.$defs.a",
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$defs": {"a": {"$ref": "#/$defs/b", "maxLength": 3}, "b": {}},
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("path", "schema"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_what_is_wrong_is_named_by_its_path(path: str, schema: Any) -> None:
    assert path in refused(path, schema)


def test_what_is_not_enforced_can_be_checked_afterwards() -> None:
    unique = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    grammar = Grammar.json_schema(unique, unsupported="check")
    check(grammar, ["[1, 2]", "[1, 1]"], ["[1,2]", '["a"]'])
    assert grammar.unchecked == ("$.uniqueItems",)
    assert grammar.parse("[1, 2]") == [1, 2]
    with pytest.raises(InvalidOutputError) as caught:
        grammar.parse("[1, 1]")
    assert caught.value.text == "[1, 1]"
    assert caught.value.path == "$"
    # Unknown words and mistakes stay errors.
    refused("$.uniqeItems", {"uniqeItems": True}, unsupported="check")


def test_an_option_that_nothing_fits_is_left_out() -> None:
    schema = {"type": "string", "anyOf": [{"type": "integer"}, {"maxLength": 2}, False]}
    check(Grammar.json_schema(schema), ['"ab"'], ["1", '"abc"'])
    endless = {"type": "array", "items": {"$ref": "#/$defs/e"}, "minItems": 1}
    union = {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/e"}], "$defs": {"e": endless}}
    check(Grammar.json_schema(union), ["null"], ["[", "[]"])
    deep = {"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}
    check(Grammar.json_schema({**deep, "required": ["a"]}), ['{"a": {"a": null}}'], ["{}"])


def test_how_json_is_written() -> None:
    schema = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "array"}}}
    grammar = Grammar.json_schema(schema)
    check(
        grammar,
        ['{"b": 1, "a": []}', '{"b": 1}', "{}", '{"a": ["x", {"y": 1.5e3}]}'],
        ['{"b":1}', '{ "b": 1}', '{"a": [], "b": 1}', '{"b": 1,"a": []}', '{"b": 01}', '{"c": 1}'],
    )
    spaced = Grammar.json_schema(schema, whitespace=2)
    check(
        spaced,
        ['{"b":1,"a":[]}', '{\n "b" : 1 , "a": [ ] }', "{  }"],
        ['{   "b":1}', '{"b":1   }', ' {"b":1}', '{"b":1} '],
    )
    assert spaced.parse('{\n "b" : 1}') == {"b": 1}


def test_silence_of_a_schema() -> None:
    named = {"properties": {"a": {"type": "integer"}}}
    check(Grammar.json_schema(named), ['{"a": 1}', "{}"], ['{"b": 1}', "5"])
    check(
        Grammar.json_schema(named, open=True), ['{"a": 1, "b": 1}', "5", '{"b": 1}'], ['{"a": ""}']
    )
    told = {**named, "additionalProperties": {"type": "null"}}
    check(Grammar.json_schema(told), ['{"a": 1, "b": null}'], ['{"b": 1}', '{"b": null, "a": 1}'])


def test_what_would_not_end_does() -> None:
    short = {"max_string_length": 3, "max_items": 2, "max_integer_digits": 2, "max_depth": 1}
    more = {"max_fraction_digits": 1, "max_extra_keys": 1, "max_key_length": 2}
    grammar = Grammar.json(**short, **more)
    check(
        grammar,
        [
            '"abc"',
            "[1, 2]",
            "99",
            "1.5",
            '{"ab": 1}',
            "[]",
            '"\\n\\"\\u00e9"'.replace("\\u00e9", "é"),
        ],
        [
            '"abcd"',
            "[1, 2, 3]",
            "100",
            "1.55",
            '{"a": 1, "b": 2}',
            '{"abc": 1}',
            "[[]]",
            '"\\ud800"',
        ],
    )
    # A schema's own bounds go before.
    check(Grammar.json_schema({"type": "string", "minLength": 5}, **short), ['"abcde"'], ['"abc"'])
    check(Grammar.json_schema({"type": "integer", "minimum": 1000}, **short), ["1234"], ["99"])
    check(
        Grammar.json_schema({"type": "string", "maxLength": 5}, **short), ['"abcde"'], ['"abcdef"']
    )


def test_numbers_at_their_bounds() -> None:
    for low, high in ((-12.5, 7.25), (0, 1), (0.1, 0.15), (-3, -2.999), (99, 101), (1e-3, 1e3)):
        for words in (("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")):
            schema = {"type": "number", words[0]: low, words[1]: high}
            judge = jsonschema.Draft202012Validator(schema)
            grammar = Grammar.json_schema(schema)
            near = {low, high, low + 0.001, low - 0.001, high + 0.0001, high - 0.0001, 0, -low}
            for value in {round(v, 6) for v in near} | {int(v) for v in near}:
                text = f"{Decimal(str(value)):f}"
                assert accepts(grammar, text) == judge.is_valid(json.loads(text)), (schema, text)
    check(
        Grammar.json_schema({"type": "integer", "minimum": -3}),
        ["-3", "0", "12"],
        ["-4", "-0", "1.0"],
    )
    big = Grammar.json_schema({"type": "integer", "multipleOf": 365, "minimum": 0})
    check(big, ["0", "365", "730", "36500000"], ["366", "1"])


def test_parse_says_what_is_wrong() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    grammar = Grammar.json_schema(schema)
    assert grammar.parse('{"a": 3}') == {"a": 3}
    assert grammar.parse('{"a":3 }') == {"a": 3}  # other white space is no other value
    for text in ("", "{", '{"a', '{"a": 3', '{"a": '):
        with pytest.raises(IncompleteError) as short:
            grammar.parse(text)
        assert short.value.text == text
        assert "max_tokens" in short.value.hint
    nested = {"$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}}
    lists = Grammar.json_schema({**nested, "$ref": "#/$defs/n"})
    assert lists.parse("[[], [[]]]") == [[], [[]]]
    with pytest.raises(InvalidOutputError, match="deeply"):
        lists.parse("[" * 900 + "]" * 900)
    for text in (
        "x",
        '{"a": x',
        '{"a": "3"}',
        '{"b": 1}',
        "[]",
        '{"a": NaN}',
        '{"a": 3} x',
        "[" * 9999,
    ):
        with pytest.raises(InvalidOutputError) as wrong:
            grammar.parse(text)
        assert wrong.value.text == text


def test_envelopes_files_and_older_spellings(tmp_path: Any) -> None:
    inner = {"type": "object", "properties": {"a": {"$ref": "#/definitions/x"}}, "required": ["a"]}
    inner["definitions"] = {"x": {"type": "integer"}}
    envelope = {
        "type": "json_schema",
        "json_schema": {"name": "n", "strict": True, "schema": inner},
    }
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(inner))
    for schema in (inner, envelope, json.dumps(inner), file):
        check(Grammar.json_schema(schema), ['{"a": 1}'], ["{}", '{"a": ""}'])
    own = {"$id": "https://a.b/c", "$ref": "https://a.b/c#/$defs/x", "$defs": {"x": {"const": 1}}}
    check(Grammar.json_schema({**own, "x-more": 1, "$schema": "https://nowhere"}), ["1"], ["2"])
    assert Grammar.json_schema(own).parse("1") == 1
    check(Grammar.json_schema({"type": "json_object"}), ["{}", '{"x": [1]}'], ["[]"])
    with pytest.raises(GrammarError, match=r"missing\.json"):
        Grammar.json_schema(tmp_path / "missing.json")
