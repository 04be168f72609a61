"""Weights re-laid for the CPU, on real weights: that they work, and take what the plan says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from insides import logits_of

from edge_llama import Model, Sampling
from edge_llama.native import read_hardware
from edge_llama.native.devices import cpu_features
from edge_llama.native.repack import _pattern, repacked_types
from edge_llama_convert import convert, plan

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.model

TEXT = "The sea is blue because it reflects the sky, and also because water absorbs red light."


@pytest.fixture(scope="module")
def q4_0(real_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "Q4_0" not in repacked_types(cpu_features()):
        pytest.skip("llama.cpp has no other layout for Q4_0 on this CPU")
    out = tmp_path_factory.mktemp("repack") / "q4_0.gguf"
    convert(plan(real_checkpoint, recipe="q4_0"), out)
    return out


def test_names_are_joined_into_a_short_pattern() -> None:
    names = [f"blk.{i}.{kind}.weight" for i in range(12) for kind in ("attn_q", "ffn_up")]
    names += ["blk.3.ffn_down.weight", "blk.10.ffn_down_exps.weight", "output.weight"]
    pattern = _pattern([*names, "token_embd.weight", "blk.1.attn_q.bias", "blk.1.x(+.weight"])
    assert len(pattern) < 150
    for name in names:
        assert re.search(pattern, name)
    for i in range(1, 12):
        assert not re.search(pattern, f"blk.{i}.ffn_down.weight") or i == 3
    for other in (
        "token_embd.weight",
        "blk.1.attn_q.bias",
        "blk.12.attn_q.weight",
        "xoutput.weight",
    ):
        assert not re.search(pattern, other)
    assert not _pattern(["token_embd.weight"])


def logits(path: Path, **options: Any) -> Any:
    """Return the logits of every position of a text that is read in one batch."""
    with Model.open(path, n_ctx=256, **options) as model:
        config, tokens = model.config, model.tokenize(TEXT)
    return logits_of(path, config, tokens)


def test_repacked_weights_answer_alike(q4_0: Path) -> None:
    # Of both kinds of attention the one that rounds alike whatever the weights' layout.
    plain, repacked = (
        logits(q4_0, repack=repack, flash_attention="on") for repack in ("off", "on")
    )
    norms = np.linalg.norm(plain, axis=1) * np.linalg.norm(repacked, axis=1)
    assert ((plain * repacked).sum(axis=1) / norms).min() > 0.999
    assert (plain != repacked).any(), "nothing was repacked"
    with Model.open(q4_0, n_ctx=256, repack="on") as model:
        reply = model.generate(TEXT * 3, sampling=Sampling(max_tokens=8, seed=1))
        assert reply.completion_tokens == 8


def test_they_take_what_the_plan_says(q4_0: Path) -> None:
    assert "Q4_0" in read_hardware().repacked_types
    with Model.open(q4_0, n_ctx=256) as model:
        receipt = model.memory()
        assert model.plan.repack
        assert receipt.host.repacked == pytest.approx(model.plan.host.repacked, rel=0.05)
        assert receipt.host.repacked > 50 * 2**20
    with Model.open(q4_0, n_ctx=256, repack="off") as model:
        assert model.memory().host.repacked == model.plan.host.repacked == 0


def test_a_type_without_another_layout_is_mapped_as_it_is(embedded: Path) -> None:
    with Model.open(embedded, n_ctx=256, repack="on") as model:
        assert model.generate(TEXT * 3, sampling=Sampling(max_tokens=4)).completion_tokens <= 4
        if "Q4_1" not in repacked_types(cpu_features()):
            assert model.memory().host.repacked == 0
