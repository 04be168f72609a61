from __future__ import annotations

import json
from typing import TYPE_CHECKING

import builders
import numpy as np
import pytest

from edge_llama_convert import (
    SourceError,
    TensorError,
    TokenizerError,
    UnsupportedError,
    convert,
    plan,
)
from edge_llama_convert.checkpoint import INDEX, Checkpoint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return builders.build_tiny_checkpoint(tmp_path / "tiny", shards=2)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        plan(tmp_path / "nowhere")


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is empty"):
        plan(tmp_path)


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(SourceError, match="not a folder"):
        plan(file)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_missing_files_are_named(tiny: Path, name: str) -> None:
    (tiny / name).unlink()
    with pytest.raises((SourceError, TokenizerError), match=name):
        plan(tiny)


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000])
def test_damaged_config_is_named(tiny: Path, content: str) -> None:
    (tiny / "config.json").write_text(content)
    with pytest.raises(SourceError, match=r"config\.json"):
        plan(tiny)


def test_shards_with_and_without_index_are_the_same_checkpoint(tiny: Path) -> None:
    indexed = Checkpoint.open(tiny)
    (tiny / INDEX).unlink()
    assert Checkpoint.open(tiny).tensors == indexed.tensors


def test_missing_shard_is_named(tiny: Path) -> None:
    (tiny / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(SourceError, match="1 of 2 shards missing: model-00002"):
        plan(tiny)


def test_missing_shard_without_index_names_the_tensors(tiny: Path) -> None:
    (tiny / INDEX).unlink()
    (tiny / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(TensorError, match="tensors missing: model") as caught:
        plan(tiny)
    assert "model.norm.weight" in str(caught.value) or "and" in str(caught.value)


def test_an_index_that_lies(tiny: Path) -> None:
    index = json.loads((tiny / INDEX).read_text())
    index["weight_map"]["model.extra.weight"] = "model-00001-of-00002.safetensors"
    (tiny / INDEX).write_text(json.dumps(index))
    with pytest.raises(SourceError, match=r"disagree about 1 tensors: model\.extra\.weight"):
        plan(tiny)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd"])
def test_an_index_cannot_point_outside_the_folder(tiny: Path, name: str) -> None:
    (tiny / INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(SourceError, match="same folder"):
        plan(tiny)


def test_the_same_tensor_in_two_shards(tiny: Path) -> None:
    (tiny / INDEX).unlink()
    shard = tiny / "model-00001-of-00002.safetensors"
    (tiny / "model-copy.safetensors").write_bytes(shard.read_bytes())
    with pytest.raises(
        SourceError, match=r"10 tensors are in more than one of model-00001-of-00002.*, model-copy"
    ):
        plan(tiny)


def test_truncated_shard(tiny: Path) -> None:
    shard = tiny / "model-00001-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(SourceError, match=f"{shard.name}: truncated"):
        plan(tiny)


def test_weights_of_unknown_names_are_told(tiny: Path) -> None:
    for shard in tiny.glob("*.safetensors*"):
        shard.unlink()
    (tiny / "weights.pth").touch()
    with pytest.raises(UnsupportedError, match=r"the only weights are \*\.pth files"):
        plan(tiny)


def test_missing_unexpected_and_misshaped_tensors_are_one_error(tmp_path: Path) -> None:
    config = {**builders.CONFIG, **builders.TINY_SHAPE}
    tensors = builders.tiny_tensors(config)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)  # ignored
    tensors["model.layers.0.adapter.weight"] = np.ones((2, 2), np.float32)
    tensors["model.norm.weight"] = np.ones(63, np.float32)
    path = builders.build_tiny_checkpoint(tmp_path / "x", tensors=tensors)
    with pytest.raises(TensorError) as caught:
        plan(path)
    message = str(caught.value)
    assert "1 tensors missing: model.layers.1.mlp.up_proj.weight" in message
    assert "1 tensors unexpected: model.layers.0.adapter.weight" in message
    assert "model.norm.weight has shape [63], config.json calls for [64]" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_found_in_the_weights(tmp_path: Path, value: float) -> None:
    tensors = builders.tiny_tensors({**builders.CONFIG, **builders.TINY_SHAPE})
    tensors["model.layers.1.mlp.up_proj.weight"][3, 7] = value
    path = builders.build_tiny_checkpoint(tmp_path / "x", tensors=tensors)
    out = tmp_path / "out.gguf"
    with pytest.raises(TensorError, match=r"layers\.1\.mlp\.up_proj\.weight: NaN or Inf"):
        convert(plan(path, recipe="q8_0"), out)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x"]


def test_values_beyond_float16_are_refused(tmp_path: Path) -> None:
    tensors = builders.tiny_tensors({**builders.CONFIG, **builders.TINY_SHAPE})
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e6
    path = builders.build_tiny_checkpoint(tmp_path / "x", tensors=tensors)
    with pytest.raises(TensorError, match="too large for type F16"):
        convert(plan(path, recipe="f16"), tmp_path / "out.gguf")
    convert(plan(path, recipe="bf16"), tmp_path / "out.gguf")


def test_a_tokenizer_larger_than_the_embedding(tmp_path: Path) -> None:
    path = builders.build_tiny_checkpoint(tmp_path / "x", changes={"vocab_size": 49000})
    with pytest.raises(TokenizerError, match="beyond the embedding's 49000 rows"):
        plan(path)


def test_an_unknown_pre_tokenizer_is_refused(tmp_path: Path) -> None:
    path = builders.build_tiny_checkpoint(tmp_path / "x")
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "Whitespace"}
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UnsupportedError, match="unknown pre-tokenizer"):
        plan(path)


@pytest.mark.parametrize("content", ["", "{}", '{"model": {"type": "BPE"}}'])
def test_a_damaged_tokenizer_is_named(tiny: Path, content: str) -> None:
    (tiny / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        plan(tiny)
