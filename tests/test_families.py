"""Every supported family, against what llama.cpp's two steps make of the same checkpoint."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import builders
import families
import gguf
import numpy as np
import pytest

from edge_llama_convert import Recipe, TensorError, convert, plan

if TYPE_CHECKING:
    from pathlib import Path

# sha256 of convert_hf_to_gguf.py's and llama-quantize's files; see families.py.
LLAMA_CPP: dict[str, dict[str, str]] = json.loads(families.DIGESTS.read_text(encoding="utf-8"))

#: For the families with large vocabularies, to be quick; the benchmark compares all types.
FEW_TYPES = [Recipe.Q4_K_M, Recipe.Q8_0]


def test_every_family_has_digests() -> None:
    names = {f"{name}-{shape}" for name in families.FAMILIES for shape in families.SHAPES}
    assert LLAMA_CPP.keys() == names


@pytest.mark.parametrize("shape", families.SHAPES)
@pytest.mark.parametrize("name", families.FAMILIES)
def test_the_files_equal_llama_cpp_s_byte_for_byte(name: str, shape: str, tmp_path: Path) -> None:
    source = families.build(tmp_path, name, shape)
    large = families.FAMILIES[name].config["vocab_size"] > 30000
    wrong = []
    for recipe in FEW_TYPES if large else Recipe:
        out = tmp_path / f"{recipe.value}.gguf"
        convert(plan(source, recipe=recipe), out)
        digest = hashlib.sha256(out.read_bytes()).hexdigest()
        if digest != LLAMA_CPP[source.name][recipe.value]:
            wrong.append(recipe.value)
    assert wrong == []


def test_experts_are_stacked_in_their_order(tmp_path: Path) -> None:
    source = families.build(tmp_path, "mixtral-4", "ragged")
    config = json.loads((source / "config.json").read_text())
    weights = builders.tiny_tensors(config)
    convert(plan(source, recipe="bf16"), tmp_path / "out.gguf")
    reader = gguf.GGUFReader(tmp_path / "out.gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    prefix = "model.layers.1.block_sparse_moe"
    for linear, name in (("w1", "gate"), ("w2", "down"), ("w3", "up")):
        data = tensors[f"blk.1.ffn_{name}_exps.weight"].data.view(np.uint16)
        expected = [weights[f"{prefix}.experts.{i}.{linear}.weight"] for i in range(4)]
        assert np.array_equal(data, builders.to_bf16(np.stack(expected)))
    gate = builders.to_bf16(weights[f"{prefix}.gate.weight"])
    stored = tensors["blk.1.ffn_gate_inp.weight"].data
    assert stored.dtype == np.float32
    assert np.array_equal(builders.to_bf16(stored), gate)
    assert reader.fields["llama.expert_count"].contents() == 4
    assert reader.fields["llama.expert_used_count"].contents() == 2
    assert reader.fields["general.size_label"].contents().startswith("4x")


def test_a_missing_expert_is_named(tmp_path: Path) -> None:
    config = {**families.FAMILIES["mixtral-4"].config, **families.SHAPES["ragged"]}
    weights = builders.tiny_tensors(config)
    missing = "model.layers.1.block_sparse_moe.experts.3.w2.weight"
    del weights[missing]
    source = families.build(tmp_path, "mixtral-4", "ragged")
    builders.write_safetensors(
        source / "model.safetensors",
        {name: ("BF16", builders.to_bf16(values)) for name, values in weights.items()},
    )
    with pytest.raises(TensorError, match=f"1 tensors missing: {missing}"):
        plan(source)


def test_nan_in_an_expert_names_that_expert(tmp_path: Path) -> None:
    config = {**families.FAMILIES["mixtral-4"].config, **families.SHAPES["ragged"]}
    weights = builders.tiny_tensors(config)
    damaged = "model.layers.0.block_sparse_moe.experts.2.w3.weight"
    weights[damaged][5, 5] = np.nan
    source = families.build(tmp_path, "mixtral-4", "ragged")
    builders.write_safetensors(
        source / "model.safetensors", {name: ("F32", values) for name, values in weights.items()}
    )
    with pytest.raises(TensorError, match=rf"{damaged}: NaN or Inf within rows 0 to"):
        convert(plan(source), tmp_path / "out.gguf")
