"""Sampling on the real model: seeds, the model's own defaults, log probabilities, the commands."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from insides import logits_of, native_of, prompt_of
from test_cli import assert_one_line_error

from edge_llama import Model, Sampling
from edge_llama_convert import convert, plan

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    RunCLI = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.model

SEEDED = Sampling(temperature=1.0, seed=7, max_tokens=16)
QUESTION = "Tell me a story."


def test_a_seed_gives_the_same_text_whatever_came_before(model: Model, run_cli: RunCLI) -> None:
    model.generate([1, 2, 3], sampling=Sampling(max_tokens=1))  # no prefix to reuse
    first = model.generate(QUESTION, sampling=SEEDED)
    assert (first.seed, first.completion_tokens) == (7, 16)
    model.generate("Something else entirely.", sampling=Sampling(max_tokens=8))
    partly = model.generate(QUESTION, sampling=SEEDED)
    wholly = model.generate(QUESTION, sampling=SEEDED)
    assert 0 < partly.cached_tokens < wholly.cached_tokens == first.prompt_tokens - 1
    assert partly.tokens == wholly.tokens == first.tokens
    other = model.generate(QUESTION, sampling=Sampling(temperature=1.0, seed=8, max_tokens=16))
    assert other.tokens != first.tokens
    run = run_cli(
        "generate", QUESTION, "--temp", "1", "-s", "7", "--max-tokens", "16", "--ctx", "2048"
    )
    assert run.stdout == first.text + "\n"


def test_a_drawn_seed_is_reported_and_repeats_the_text(model: Model) -> None:
    drawn = [model.generate(QUESTION, sampling=Sampling(max_tokens=12)) for _ in range(2)]
    assert drawn[0].seed != drawn[1].seed
    for reply in drawn:
        again = model.generate(QUESTION, sampling=Sampling(max_tokens=12, seed=reply.seed))
        assert again.tokens == reply.tokens


def test_penalties_and_dry_see_the_prompt(model: Model) -> None:
    def answer(**options: Any) -> str:
        sampling = Sampling(temperature=0, max_tokens=6, **options)
        return model.generate("one two one two one two one two", sampling=sampling, raw=True).text

    assert "one" in answer()
    assert "one" not in answer(repeat_penalty=2.0)
    assert "one two" not in answer(dry_multiplier=10.0)
    assert " one" not in answer(logit_bias={" one": float("-inf")})


def test_the_model_s_own_defaults_apply_unless_set(tiny_checkpoint: Path, tmp_path: Path) -> None:
    source = shutil.copytree(tiny_checkpoint, tmp_path / "tiny")
    (source / "generation_config.json").write_text(
        json.dumps({"temperature": 1.5, "top_k": 1, "eos_token_id": 2})
    )
    out = tmp_path / "x.gguf"
    convert(plan(source, recipe="f16"), out)
    with Model.open(out, n_ctx=64) as model:

        def answers(**options: Any) -> set[tuple[int, ...]]:
            prompt = model.tokenize("Hello")
            settings = [Sampling(seed=seed, max_tokens=8, **options) for seed in range(4)]
            return {model.generate(prompt, sampling=one).tokens for one in settings}

        (own,) = answers()  # top_k 1, from the file
        assert answers(temperature=0, top_k=0) == {own}
        assert len(answers(top_k=40)) > 1


def test_logprobs_are_the_model_s(model: Model, embedded: Path) -> None:
    sampling = Sampling(temperature=1.2, seed=5, max_tokens=8, logprobs=3)
    stream = model.stream("Name a fruit.", sampling=sampling)
    prompt = prompt_of(stream)
    for _ in stream:
        assert stream.logprobs
    reply = stream.reply
    assert stream.logprobs == reply.logprobs
    assert [entry.token for entry in reply.logprobs] == list(reply.tokens)
    # Read as the engine reads them: in batches of other sizes they would be rounded otherwise.
    batches = [prompt, *([token] for token in reply.tokens)]
    logits = logits_of(embedded, model.config, *batches)[len(prompt) - 1 : -1]
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    for row, entry in zip(expected, reply.logprobs, strict=True):
        assert entry.logprob == pytest.approx(row[entry.token], abs=0.02)
        assert entry.piece == native_of(model).piece(entry.token)
        ranked = [one.logprob for one in entry.top]
        assert ranked == pytest.approx(np.sort(row)[::-1][:3].tolist(), abs=0.02)
        assert [row[one.token] for one in entry.top] == pytest.approx(ranked, abs=0.02)
    assert model.generate("Name a fruit.", sampling=Sampling(max_tokens=2)).logprobs == ()


def test_generate_shows_logprobs(run_cli: RunCLI) -> None:
    arguments = ("generate", "Name a fruit.", "--temp", "0", "--max-tokens", "3", "--logprobs", "2")
    answer = json.loads(run_cli(*arguments, "--json").stdout)
    entries = answer["logprobs"]
    assert "".join(entry["text"] for entry in entries).startswith(answer["text"])
    for entry in entries:
        assert entry["top"][0] == {name: entry[name] for name in ("token", "text", "logprob")}
        assert 0 > entry["top"][0]["logprob"] > entry["top"][1]["logprob"]
    run = run_cli(*arguments)
    assert run.stdout == answer["text"] + "\n"
    assert len(run.stderr.splitlines()) == 3
    assert repr(entries[0]["text"]) in run.stderr.splitlines()[0]


def test_every_choice_is_an_option_of_both_commands(run_cli: RunCLI) -> None:
    names = {field.name.replace("_", "-") for field in dataclasses.fields(Sampling)}
    names = names - {"dry-sequence-breakers"} | {"dry-sequence-breaker"}
    assert len(names) > 25
    for command in ("chat", "generate"):
        words = re.findall(r"--[a-z-]+", run_cli(command, "--help").stdout)
        assert {words.count(f"--{name}") for name in names} == {1}


def test_options_of_the_command_line(run_cli: RunCLI) -> None:
    forbid = [flag for text in (" one", '"one"', " two", "10") for flag in ("--logit-bias", text)]
    forbid = [f"{word}=-inf" if i % 2 else word for i, word in enumerate(forbid)]
    run = run_cli(
        *(
            "generate",
            "--raw",
            "one two one two one two",
            "--temp",
            "0",
            "--max-tokens",
            "4",
            *forbid,
        ),
        *("--samplers", "penalties;temperature", "--dry-sequence-breaker", "none"),
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()
    assert "one" not in run.stdout
    assert "two" not in run.stdout
    for wrong, message in (
        (("--top-p", "2"), "top_p = 2.0 is not possible"),
        (("--logit-bias", "x"), "logit_bias = 'x' is not possible"),
        (("--samplers", "top_x"), "samplers = ('top_x',) is not possible"),
    ):
        run = run_cli("generate", "Hi", *wrong)
        assert run.returncode == 2
        assert_one_line_error(run, message, "Use ")
