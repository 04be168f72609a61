"""Grammars made to hurt: a named error or a grammar that works, in two seconds, never an abort."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_llama.grammar import Grammar as GrammarType

    Make = Callable[[type[GrammarType]], GrammarType]


def rules(count: int, body: str, end: str, separator: str) -> str:
    lines = [f"r{i} {separator} {body.replace('NEXT', f'r{i + 1}')}" for i in range(count)]
    return "\n".join([*lines, f"r{count} {separator} {end}"])


def chain(count: int) -> dict[str, Any]:
    below = {f"a{i}": {"$ref": f"#/$defs/a{i + 1}"} for i in range(count)}
    return {"$ref": "#/$defs/a0", "$defs": {**below, f"a{count}": {"type": "null"}}}


def ladder(count: int) -> dict[str, Any]:
    below = {
        f"a{i}": {"properties": {"x": {"$ref": f"#/$defs/a{i + 1}"}}, "required": ["x"]}
        for i in range(count)
    }
    return {"$ref": "#/$defs/a0", "$defs": {**below, f"a{count}": {"type": "null"}}}


def names(count: int) -> dict[str, Any]:
    return {f"p{i}": {"type": "string"} for i in range(count)}


# "refused" must raise GrammarError; "works" must compile and walk; "either" may do as it likes.
CASES: dict[str, tuple[str, Make]] = {
    "regex: 10,000 nested groups": ("refused", lambda g: g.regex("(" * 10000 + "a" + ")" * 10000)),
    "regex: 60,000 groups": ("refused", lambda g: g.regex("(a)" * 60000)),
    "regex: nested repeats": ("refused", lambda g: g.regex("((a{1000}){1000}){1000}")),
    "regex: a huge repeat": ("refused", lambda g: g.regex("a{1000000000}")),
    "regex: catastrophic for others": ("works", lambda g: g.regex("(a+)+(a+)+(a|aa)+b")),
    "regex: exponential states": ("works", lambda g: g.regex("(.*a.{20}){20}")),
    "regex: 4,000 words": ("works", lambda g: g.regex("|".join(f"w{i}x" for i in range(4000)))),
    "regex: two megabytes": ("refused", lambda g: g.regex("a" * 2_000_000)),
    "choice: 100,000 texts": ("refused", lambda g: g.choice(*map(str, range(100000)))),
    "choice: 5,000 texts": ("works", lambda g: g.choice(*(f"value {i}" for i in range(5000)))),
    "gbnf: 10,000 nested groups": ("refused", lambda g: g.gbnf("root ::= " + "(" * 10000)),
    "gbnf: 60,000 groups": ("refused", lambda g: g.gbnf('root ::= ("a")' + '("a")' * 60000)),
    "gbnf: 20,000 rules": (
        "refused", lambda g: g.gbnf("root ::= r0\n" + rules(20000, '"x" NEXT', '"a"', "::=")),
    ),
    "gbnf: 1,900 rules in a row": (
        "works", lambda g: g.gbnf("root ::= r0\n" + rules(1900, '"(" NEXT ")" | "x" r0', '"a"', "::=")),
    ),
    "gbnf: a text of 2^60 characters": (
        "refused", lambda g: g.gbnf("root ::= r0\n" + rules(60, "NEXT NEXT", '"a"', "::=")),
    ),
    "gbnf: left recursion": ("works", lambda g: g.gbnf('root ::= root "a" | "b"')),
    "gbnf: only left recursion": ("refused", lambda g: g.gbnf('root ::= root "a"')),
    "gbnf: ambiguity": ("works", lambda g: g.gbnf('root ::= root root root | root root | "a" | ""')),
    "gbnf: loops of nothing": ("works", lambda g: g.gbnf('root ::= (("a"*)*)*')),
    "lark: nested": ("refused", lambda g: g.lark("start: " + "(" * 20000 + '"a"' + ")" * 20000)),
    "lark: 3,900 rules": (
        "refused", lambda g: g.lark("start: r0\n" + rules(3900, '"x" NEXT', '"a"', ":")),
    ),
    "lark: 1,900 rules in a row": (
        "works", lambda g: g.lark("start: r0\n" + rules(1900, '("x" NEXT)?', '"a"', ":")),
    ),
    "lark: terminals in a row": (
        "works",
        lambda g: g.lark("start: R0\n" + rules(1900, '("x" NEXT)?', '"a"', ":").replace("r", "R")),
    ),
    "lark: many alternatives": (
        "either", lambda g: g.lark("start: " + "|".join(f'"{i:x}"' for i in range(14000))),
    ),
    "lark: itself": ("refused", lambda g: g.lark("start: start")),
    "lark: large steps in JSON": (
        "refused", lambda g: g.lark('start: %json {"type": "integer", "multipleOf": 999983}'),
    ),
    "schema: 10,000 levels": ("refused", lambda g: g.json_schema('{"items":' * 10000)),
    "schema: 100,000 brackets": ("refused", lambda g: g.json_schema("[" * 100000)),
    "schema: five megabytes": ("refused", lambda g: g.json_schema(f'{{"title": "{"x" * 5_000_000}"}}')),
    "schema: 20,000 keys": ("refused", lambda g: g.json_schema({"properties": names(20000)})),
    "schema: 1,000 keys that may be there": ("works", lambda g: g.json_schema({"properties": names(1000)})),
    "schema: counted keys": (
        "refused", lambda g: g.json_schema({"properties": names(1000), "minProperties": 500}),
    ),
    "schema: 10,000 values": ("works", lambda g: g.json_schema({"enum": [f"v {i}" for i in range(10000)]})),
    "schema: a row of 9,000 references": ("works", lambda g: g.json_schema(chain(9000))),
    "schema: 2,900 levels by reference": ("works", lambda g: g.json_schema(ladder(2900))),
    "schema: a reference to itself": ("refused", lambda g: g.json_schema({"$ref": "#"})),
    "schema: not itself": (
        "refused", lambda g: g.json_schema({"$ref": "#/$defs/a", "$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}}),
    ),
    "schema: 10^9 items": ("refused", lambda g: g.json_schema({"type": "array", "minItems": 10**9})),
    "schema: 10^12 characters": ("works", lambda g: g.json_schema({"type": "string", "maxLength": 10**12})),
    "schema: patterns together": (
        "refused", lambda g: g.json_schema({"allOf": [{"type": "string", "pattern": f".*x{i}.{{9}}"} for i in range(30)]}),
    ),
    "schema: a pattern and its like, denied": (
        "either", lambda g: g.json_schema({"type": "string", "pattern": "a.{300}", "not": {"pattern": "b.{300}"}}),
    ),
    "schema: numbers beyond floats": ("refused", lambda g: g.json_schema({"type": "number", "minimum": 1e308})),
    "schema: 5,000 digits": ("refused", lambda g: g.json_schema('{"minimum": 1' + "0" * 5000 + "}")),
    "schema: combinations": (
        "refused",
        lambda g: g.json_schema({"allOf": [{"anyOf": [{"properties": {f"k{i}{j}": {}}} for j in range(8)]} for i in range(8)]}),
    ),
    "schema: 40 of oneOf": (
        "either", lambda g: g.json_schema({"oneOf": [{"properties": {f"k{i}": {}}, "required": [f"k{i}"]} for i in range(40)]}),
    ),
    "schema: 60 objects of each other": (
        "works",
        lambda g: g.json_schema({
            "$ref": "#/$defs/n0",
            "$defs": {f"n{i}": {"properties": {f"p{j}": {"$ref": f"#/$defs/n{(i * 7 + j) % 60}"} for j in range(30)}} for i in range(60)},
        }),
    ),
    "template: 2,000 holes": (
        "refused",
        lambda g: g.template(" ".join(f"{{h{i}}}" for i in range(2000)), **{f"h{i}": g.regex("a") for i in range(2000)}),
    ),
}  # fmt: skip


def run(case: str) -> tuple[str, float, float]:
    """What came of it, the seconds it took to compile, and those of the slowest step."""
    import numpy as np
    from grammars import BYTES

    from edge_llama.errors import GrammarError
    from edge_llama.grammar import Grammar, compile_grammar

    start, slowest, seconds = time.perf_counter(), 0.0, 0.0
    try:
        compiled = compile_grammar(CASES[case][1](Grammar), BYTES)
        seconds = time.perf_counter() - start
        matcher, rng = compiled.matcher(), np.random.default_rng(1)
        for _ in range(60):
            begun = time.perf_counter()
            matcher.push(matcher.forced())
            if matcher.must_end:
                break
            logits = rng.standard_normal(BYTES.n_vocab).astype(np.float32)
            matcher.mask(logits)
            token = int(logits.argmax())
            assert np.isfinite(logits[token])
            matcher.push([token])
            slowest = max(slowest, time.perf_counter() - begun)
            if token in BYTES.end_tokens:
                break
    except GrammarError as error:
        assert error.hint  # noqa: PT017 - either is fine, but an error must be whole
        assert len(str(error)) < 500  # noqa: PT017 - either is fine, but an error must be whole
        return "refused", seconds or time.perf_counter() - start, slowest
    return "works", seconds, slowest


def peak_memory() -> float:
    """MB; not ru_maxrss, which a process inherits from the large one that started it."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0.0
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def run_all() -> None:
    """In a process of its own: a line for each case, and the memory at its height in MB so far."""
    for case in CASES:
        found = run(case)
        memory = peak_memory()
        sys.stdout.write(json.dumps([case, *found, memory]) + "\n")
        sys.stdout.flush()


@pytest.fixture(scope="module")
def outcome() -> dict[str, Any]:
    tests = str(Path(__file__).parent)
    code = (
        f"import sys; sys.path.insert(0, {tests!r}); import test_grammar_hostile as t; t.run_all()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {"errors": done.stderr, **{line[0]: line[1:] for line in lines}}


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_grammar_does_no_harm(case: str, outcome: dict[str, Any]) -> None:
    assert outcome["errors"] == ""  # Rust's panics would be told there, and what ended the process
    result, seconds, slowest, memory = outcome[case]
    assert CASES[case][0] in {result, "either"}
    assert seconds < 4  # 2 on a quiet machine
    assert slowest < 1
    assert memory < 500
