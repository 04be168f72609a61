"""``edge-llama generate`` as a process: several answers, structures, JSON, files."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    RunCLI = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.model

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def error_line(run: subprocess.CompletedProcess[str]) -> str:
    (line,) = run.stderr.strip().splitlines()
    assert line.startswith("error: ")
    return line


def test_candidates_differ_and_share_the_prompt(run_cli: RunCLI) -> None:
    options = ("--max-tokens", "6", "--seed", "4", "-n", "3")
    run = run_cli("generate", "Name a city.", *options)
    answers = run.stdout.removesuffix("\n").split("\n---\n")
    assert (run.returncode, run.stderr, len(answers)) == (0, "", 3)
    found = json.loads(run_cli("generate", "Name a city.", *options, "--json").stdout)
    assert [one["text"] for one in found["candidates"]] == answers
    assert [one["seed"] for one in found["candidates"]] == [4, 5, 6]
    assert len(set(answers)) > 1


def test_json_lines_as_they_come(run_cli: RunCLI) -> None:
    run = run_cli("generate", "Hi.", "--max-tokens", "5", "--seed", "1", "-n", "2", "--stream")
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    for number in range(2):
        own = [line for line in lines if line["candidate"] == number]
        reply = own[-1]["reply"]
        assert "".join(line["text"] for line in own[:-1]) == reply["text"]
        assert len(own) > 2
        assert reply["usage"]["completion_tokens"] <= 5
    both = run_cli("generate", "Hi.", "--stream", "--json")
    assert both.returncode == 2
    assert "exclude each other" in error_line(both)


def test_files_join_the_prompt(run_cli: RunCLI, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Once upon\n", encoding="utf-8")
    options = ("--raw", "--temp", "0", "--max-tokens", "8", "--json")
    apart = run_cli("generate", "Tell:", "-f", "a.txt", "-f", "-", *options, stdin="a time\n")
    whole = run_cli("generate", *options, stdin="Tell:\n\nOnce upon\n\na time")
    keys = ("text", "usage")
    assert [json.loads(apart.stdout)[key] for key in keys] == [
        json.loads(whole.stdout)[key] for key in keys
    ]
    missing = run_cli("generate", "x", "-f", "nosuch.txt")
    assert missing.returncode == 1
    assert "nosuch.txt" in error_line(missing)


def test_an_input_beyond_the_context_says_by_how_much(run_cli: RunCLI) -> None:
    for form in ([], ["--raw"]):
        run = run_cli("generate", "--ctx", "256", *form, stdin="word " * 500)
        assert (run.returncode, run.stdout) == (1, "")
        assert re.search(r"has 5\d\d tokens, the context 256.* by \d+ tokens", error_line(run))


def test_an_answer_in_json_that_fits_a_schema(run_cli: RunCLI, tmp_path: Path) -> None:
    (tmp_path / "person.json").write_text(json.dumps(PERSON), encoding="utf-8")
    options = ("Describe Bob.", "--seed", "1", "--json-schema", "person.json")
    run = run_cli("generate", *options, "--json")
    found = json.loads(run.stdout)
    assert run.returncode == 0
    assert json.loads(found["text"]) == found["parsed"]
    assert found["parsed"].keys() == {"name", "age"}
    cut = run_cli("generate", *options, "--max-tokens", "5")
    assert cut.returncode == 1
    assert cut.stdout.startswith('{"name": "')
    assert "cut off inside its structure" in error_line(cut)


def test_choices_patterns_and_grammars(run_cli: RunCLI, tmp_path: Path) -> None:
    (tmp_path / "g.gbnf").write_text('root ::= "a" [bc]{3}\n', encoding="utf-8")
    (tmp_path / "g.lark").write_text('start: "a" /[bc]{3}/\n', encoding="utf-8")
    for options, pattern in (
        (("--choice", "yes", "--choice", "no"), "yes|no"),
        (("--regex", "[0-9]{4}-[0-9]{2}"), "[0-9]{4}-[0-9]{2}"),
        (("--grammar", "g.gbnf"), "a[bc]{3}"),
        (("--grammar", "g.lark"), "a[bc]{3}"),
    ):
        run = run_cli("generate", "Go.", "--seed", "2", *options)
        assert (run.returncode, run.stderr) == (0, "")
        assert re.fullmatch(pattern, run.stdout.removesuffix("\n"))


def test_what_cannot_be_a_grammar_is_one_line(run_cli: RunCLI, tmp_path: Path) -> None:
    (tmp_path / "bad.gbnf").write_bytes(b'root ::= "\xff"')
    for options, code, fault in (
        (("--grammar", "nosuch.gbnf"), 1, "nosuch.gbnf"),
        (("--grammar", "bad.gbnf"), 2, "not UTF-8 at byte 10"),
        (("--regex", "("), 1, "regular expression"),
        (("--json-schema", '{"type": "text"}'), 1, "$.type: "),
        (("--json-schema", "nosuch.json"), 1, "nosuch.json"),
        (("--regex", "a", "--choice", "b"), 2, "--regex and --choice exclude"),
        (("--after", "x"), 2, "--after alone"),
    ):
        run = run_cli("generate", "Go.", *options)
        assert (run.returncode, run.stdout) == (code, "")
        assert fault in error_line(run)
