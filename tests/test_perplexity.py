"""Perplexity and divergence: the arithmetic, the reading of chunks, and the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import smallmodels

from edge_llama import InvalidOptionError, ModelConfig
from edge_llama.evaluate import compare, perplexity
from edge_llama.evaluate.scores import compare_logits, negative_log_likelihood
from edge_llama.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    RunCLI = Callable[..., subprocess.CompletedProcess[str]]

ALICE = """\
Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing \
to do: once or twice she had peeped into the book her sister was reading, but it had no pictures \
or conversations in it, "and what is the use of a book," thought Alice, "without pictures or \
conversations?"

So she was considering in her own mind (as well as she could, for the hot day made her feel very \
sleepy and stupid), whether the pleasure of making a daisy-chain would be worth the trouble of \
getting up and picking the daisies, when suddenly a White Rabbit with pink eyes ran close by her.
"""
#: llama-perplexity -m SmolLM2-135M-Instruct.Q4_1.gguf -f alice.txt --no-repack -c 32 -b 32
LLAMA_PERPLEXITY = 57.8783
LLAMA_ERROR = 21.84899


def log_softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    exact = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: npt.NDArray[np.float64] = exact - np.log(np.exp(exact).sum(axis=-1, keepdims=True))
    return result


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two small models of one vocabulary, and one of another that wants BOS."""
    folder = tmp_path_factory.mktemp("small")
    noisy = smallmodels.small_llama()
    embedding = noisy.tensors[0]
    values = np.frombuffer(embedding.data, dtype=np.float16) * np.float16(8)
    noisy.tensors[0] = replace(embedding, data=values.tobytes())
    models = {
        "bpe": smallmodels.small_llama(),
        "noisy": noisy,
        "spm": smallmodels.small_llama("spm"),
    }
    for name, model in models.items():
        (folder / f"{name}.gguf").write_bytes(model.to_bytes())
    return {name: folder / f"{name}.gguf" for name in models}


@pytest.mark.parametrize("n_vocab", [7, 100_003])  # many rows at a time, and a row alone
def test_scores_are_those_of_exact_arithmetic(n_vocab: int) -> None:
    rng = np.random.default_rng(1)
    this = (rng.normal(size=(9, n_vocab)) * 3 + 200).astype(np.float32)
    base = (this + rng.normal(size=this.shape) - 150).astype(np.float32)
    targets = rng.integers(n_vocab, size=9)
    exact, exact_base = log_softmax(this), log_softmax(base)
    rows = np.arange(9)
    assert np.allclose(
        negative_log_likelihood(this, targets), -exact[rows, targets], rtol=0, atol=1e-4
    )
    scores = compare_logits(this, base, targets)
    assert np.allclose(scores.nll, -exact[rows, targets], rtol=0, atol=1e-4)
    assert np.allclose(scores.nll_base, -exact_base[rows, targets], rtol=0, atol=1e-4)
    divergence = (np.exp(exact_base) * (exact_base - exact)).sum(axis=1)
    assert divergence.max() > 0.1
    assert np.allclose(scores.divergence, divergence, rtol=0, atol=1e-4)
    assert (scores.same_top == (this.argmax(axis=1) == base.argmax(axis=1))).all()


@pytest.mark.parametrize("name", ["bpe", "spm"])
def test_chunks_are_cut_and_scored_as_llama_perplexity_does(
    small: dict[str, Path], name: str
) -> None:
    n_ctx, text = 24, ALICE[:150]
    with Reading(small[name]) as reading:
        tokens = reading.tokenize(text)
        if name == "spm":
            tokens.insert(0, 1)
        expected = []
        for start in range(0, len(tokens) - n_ctx + 1, n_ctx):
            chunk = tokens[start : start + n_ctx]
            read = [1, *chunk[1:]] if name == "spm" else chunk
            found = log_softmax(reading.logits(read))
            expected += [-found[at, chunk[at + 1]] for at in range(n_ctx // 2, n_ctx - 1)]
    result = perplexity(small[name], text, ModelConfig(n_ctx=n_ctx, n_batch=5))
    assert result.n_tokens == len(tokens) > result.n_chunks * n_ctx
    assert result.n_scored == len(expected) >= 2 * 11
    assert result.perplexity.value == pytest.approx(np.exp(np.mean(expected)), rel=2e-3)
    error = np.std(expected) / np.sqrt(len(expected) - 1)
    assert result.perplexity.error == pytest.approx(error * result.perplexity.value, rel=1e-2)


def test_two_models_side_by_side(small: dict[str, Path]) -> None:
    config, steps = ModelConfig(n_ctx=32), list[tuple[int, int]]()
    result = compare(
        small["noisy"],
        small["bpe"],
        ALICE,
        config,
        max_chunks=3,
        on_progress=lambda step: steps.append((step.done, step.total)),
    )
    assert steps == [(1, 3), (2, 3), (3, 3)]
    alone = perplexity(small["noisy"], ALICE, config, max_chunks=3)
    assert result.this.perplexity.value == pytest.approx(alone.perplexity.value, rel=1e-6)
    assert result.this.perplexity.value != result.base.perplexity.value
    ratio = result.this.perplexity.value / result.base.perplexity.value
    assert result.ratio.value == pytest.approx(ratio, rel=1e-6)
    assert 0 < result.divergence.median <= result.divergence.percentile_99
    assert result.divergence.mean.value <= result.divergence.maximum
    same = compare(small["bpe"], small["bpe"], ALICE, config, max_chunks=3)
    assert same.divergence.maximum == 0
    assert same.same_top.value == same.ratio.value == 1


def test_what_cannot_be_compared_is_refused(small: dict[str, Path]) -> None:
    with pytest.raises(InvalidOptionError, match=r"different vocabularies: 294 tokens against 279"):
        compare(small["bpe"], small["spm"], ALICE)
    with pytest.raises(InvalidOptionError, match="has 22 tokens, fewer than a context") as caught:
        perplexity(small["bpe"], "Twenty-two letters or so", ModelConfig(n_ctx=32))
    assert "at most 22" in caught.value.hint


@pytest.mark.model
def test_the_figure_is_llama_perplexity_s(run_cli: RunCLI, embedded: Path, tmp_path: Path) -> None:
    (tmp_path / "alice.txt").write_text(ALICE, encoding="utf-8", newline="\n")
    run = run_cli("perplexity", str(embedded), "alice.txt", "--ctx", "32")
    assert run.returncode == 0, run.stderr
    value, error = (float(part) for part in run.stdout.split("±"))
    assert value == pytest.approx(LLAMA_PERPLEXITY, rel=0.005)
    assert error == pytest.approx(LLAMA_ERROR, rel=0.005)
    assert "60 tokens scored in 4 chunks of 32" in run.stderr


def test_the_command_compares(run_cli: RunCLI, small: dict[str, Path]) -> None:
    arguments = ["perplexity", str(small["noisy"]), "-", "--against", str(small["bpe"]), "-c", "32"]
    shown = run_cli(*arguments, stdin=ALICE)
    assert shown.returncode == 0, shown.stderr
    assert "KL(base || this), mean" in shown.stdout
    assert f"base: {small['bpe']}" in shown.stderr
    facts = json.loads(run_cli(*arguments, "--json", "--chunks", "2", stdin=ALICE).stdout)
    assert facts["this"]["model"] == str(small["noisy"])
    assert facts["this"]["n_chunks"] == 2
    assert facts["divergence"]["mean"]["value"] > 0


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["bpe", "latin1.txt"], ["latin1.txt: byte 3", "iconv"]),
        (["bpe", "nothing.txt"], ["nothing.txt"]),
        (["bpe", "short.txt"], ["fewer than a context of 512", "longer text"]),
        (["bpe", "long.txt", "--against", "spm"], ["different vocabularies", "one family"]),
    ],
)
def test_errors_are_one_line(
    run_cli: RunCLI, small: dict[str, Path], tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    (tmp_path / "latin1.txt").write_bytes("Caf\u00e9 au lait".encode("latin-1"))
    (tmp_path / "short.txt").write_text("short", encoding="utf-8")
    (tmp_path / "long.txt").write_text(ALICE * 3, encoding="utf-8")
    run = run_cli("perplexity", *(str(small.get(each, each)) for each in arguments))
    assert run.returncode in {1, 2}
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1
    for part in parts:
        assert part in run.stderr


@pytest.mark.model
@pytest.mark.skipif(os.name != "posix", reason="sends a signal as a terminal does")
def test_ctrl_c_ends_it_at_once(embedded: Path, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text(ALICE * 100, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_llama", "perplexity", str(embedded), "long.txt", "-c", "8192"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    time.sleep(4)  # in the middle of the first chunk, which takes half a minute
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - started < 5
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
