"""Checkpoints as users have them: taken when their meaning is certain, else explained in a line."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Any

import builders
import gguf
import pytest
import spm

from edge_llama_convert import (
    ConvertError,
    ParamsError,
    SourceError,
    TensorError,
    TokenizerError,
    UnsupportedError,
    convert,
    plan,
)
from edge_llama_convert.naming import listed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5000000000\n"


def edit(folder: Path, **changes: Any) -> None:
    """Change config.json after the weights were made; ``...`` drops a key."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    builders.write_json(path, {key: value for key, value in config.items() if value is not ...})


def store(folder: Path, rename: Callable[[str], str]) -> None:
    """Write the weights under other names."""
    config = json.loads((folder / "config.json").read_text())
    tensors = builders.tiny_tensors(config)
    builders.write_safetensors(
        folder / "model.safetensors",
        {rename(name): ("BF16", builders.to_bf16(values)) for name, values in tensors.items()},
    )


# --- config.json ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 64.0, "num_hidden_layers": 2.0, "max_position_embeddings": 8192.0},
        {"architectures": ...},
        {"architectures": None},
        {"architectures": "LlamaForCausalLM"},
        {"hidden_act": "swish"},
        {"hidden_act": ...},
        {"attention_bias": None, "mlp_bias": None, "sliding_window": None, "head_dim": None},
        {"pad_token_id": -1},  # as early configurations say that there is none
        {"rope_scaling": None},
        {"rope_scaling": {"type": "default"}},
    ],
)
def test_what_means_the_same_gives_the_same_file(tmp_path: Path, changes: dict[str, Any]) -> None:
    plain = spm.build_checkpoint(tmp_path / "a" / "same", {"pad_token_id": None})
    other = spm.build_checkpoint(tmp_path / "b" / "same", {"pad_token_id": None})
    edit(other, **changes)
    convert(plan(plain), tmp_path / "a.gguf")
    convert(plan(other), tmp_path / "b.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"hidden_size": 64.5},
            ParamsError,
            r"\.json: hidden_size = 64.5, not a positive int$",
        ),
        ({"hidden_size": "64"}, ParamsError, r"hidden_size = '64', not a positive int$"),
        ({"hidden_size": 10**50}, ParamsError, r"hidden_size = 1\d{39}, not a positive int$"),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            ParamsError,
            "rope_parameters and rope_scaling differ in rope_type",
        ),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}},
            ParamsError,
            "differ by kind of layer",
        ),
        ({"is_causal": False}, UnsupportedError, "is_causal is false"),
        ({"architectures": ["LlamaForSequenceClassification"]}, UnsupportedError, "'LlamaForSeq"),
        (
            {"num_key_value_heads": 4},
            TensorError,
            r"k_proj.weight, .*\[0-1\].self_attn.v_proj.weight have shape \[32, 64\], config",
        ),
    ],
)
def test_what_contradicts_itself_is_named(
    tmp_path: Path, changes: dict[str, Any], error: type[ConvertError], message: str
) -> None:
    source = spm.build_checkpoint(tmp_path / "x")
    edit(source, **changes)
    with pytest.raises(error, match=message) as caught:
        plan(source)
    assert caught.value.hint


# --- Folders and files ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.model", "config.json"])
def test_git_lfs_pointers(tmp_path: Path, name: str) -> None:
    source = spm.build_checkpoint(tmp_path / "x")
    (source / name).write_bytes(LFS)
    with pytest.raises(SourceError, match=rf"{name}: a Git LFS pointer") as caught:
        plan(source)
    assert "git lfs pull" in caught.value.hint


@pytest.mark.parametrize("name", ["x.gguf", "pytorch_model.bin", "tokenizer.json"])
def test_git_lfs_pointers_elsewhere(tmp_path: Path, name: str) -> None:
    source = spm.build_checkpoint(tmp_path / "x")
    (source / "model.safetensors").rename(tmp_path / "kept")
    (source / "tokenizer.model").unlink()
    if name == "tokenizer.json":
        (tmp_path / "kept").rename(source / "model.safetensors")
    (source / name).write_bytes(LFS)
    with pytest.raises(SourceError, match=rf"{name}: a Git LFS pointer"):
        plan(source / name if name == "x.gguf" else source)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_byte_order_mark(tmp_path: Path, name: str) -> None:
    source = spm.build_checkpoint(tmp_path / "x")
    (source / name).write_bytes(b"\xef\xbb\xbf" + (source / name).read_bytes())
    with pytest.raises(SourceError, match=rf"{name}: begins with a byte order mark") as caught:
        plan(source)
    assert "without BOM" in caught.value.hint


@pytest.mark.parametrize("with_config", [True, False])
def test_an_adapter_is_no_model(tmp_path: Path, with_config: bool) -> None:
    source = spm.build_checkpoint(tmp_path / "x")
    (source / "model.safetensors").rename(source / "adapter_model.safetensors")
    base = {"base_model_name_or_path": "meta-llama/Llama-2-7b"}
    builders.write_json(source / "adapter_config.json", base)
    if not with_config:
        (source / "config.json").unlink()
    with pytest.raises(UnsupportedError, match=r"\(LoRA\) of meta-llama/Llama-2-7b, not a") as e:
        plan(source)
    assert "merge_and_unload" in e.value.hint


def test_where_the_checkpoint_really_is(tmp_path: Path) -> None:
    cache = tmp_path / "models--org--name"
    snapshot = spm.build_checkpoint(cache / "snapshots" / "abc")
    with pytest.raises(SourceError, match=r"there is one in snapshots.abc") as caught:
        plan(cache)
    assert str(snapshot) in caught.value.hint
    ggufs = tmp_path / "ggufs"
    ggufs.mkdir()
    (ggufs / "x.gguf").touch()
    with pytest.raises(SourceError, match=r"1 GGUF files, e\.g\. x\.gguf") as caught:
        plan(ggufs)
    assert str(ggufs / "x.gguf") in caught.value.hint


def test_mistral_s_own_format(tmp_path: Path) -> None:
    source = spm.build_checkpoint(tmp_path / "x")
    (source / "model.safetensors").rename(source / "consolidated.safetensors")
    (source / "config.json").unlink()
    with pytest.raises(UnsupportedError, match="Mistral's own format"):
        plan(source)


@pytest.mark.skipif(os.name != "posix", reason="paths are text elsewhere")
def test_a_path_that_is_no_text(tmp_path: Path) -> None:
    source = spm.build_checkpoint(tmp_path / "x")
    odd = tmp_path / os.fsdecode(b"\xff\xfe")
    source.rename(odd)
    with pytest.raises(SourceError, match="the path is not UTF-8"):
        plan(odd)


def test_two_copies_of_the_weights(tmp_path: Path) -> None:
    one = spm.build_checkpoint(tmp_path / "one")
    two = spm.build_checkpoint(tmp_path / "two", shards=2)
    shutil.copy(one / "model.safetensors", two)
    with pytest.raises(SourceError, match=r"both model\.safetensors and model\.safetensors\.ind"):
        plan(two)


# --- The model card ------------------------------------------------------------------------------


def general(source: Path) -> dict[str, Any]:
    convert(plan(source, recipe="f16"), source.parent / "out.gguf")
    fields = gguf.GGUFReader(source.parent / "out.gguf").fields
    prefix = "general."
    return {
        key.removeprefix(prefix): field.contents()
        for key, field in fields.items()
        if key.startswith(prefix)
    }


def test_values_of_a_model_card_become_text(tmp_path: Path) -> None:
    source = spm.build_checkpoint(tmp_path / "x")
    edit(source, _name_or_path=7)
    card = """---
model_version: 1.0
model_name: [My, Model]
license: {a: b}
language: [en, no]
tags: [chat, 2024, 2024-01-31, [nested], null]
base_model: [{name: Base, version: 2}, meta-llama/Llama-2-7b]
---
"""
    (source / "README.md").write_text(card)
    found = general(source)
    assert found["version"] == "1.0"
    assert found["name"] == "My, Model"
    assert found["languages"] == ["en", "no"]
    assert found["tags"] == ["chat", "2024", "2024-01-31"]
    assert found["base_model.0.version"] == "2"
    assert found["base_model.1.organization"] == "Meta Llama"
    assert "license" not in found


@pytest.mark.parametrize(
    "header", [b"license: [a, b\nx: : :", b"license: \xe9", b"a: !!python/object/apply:os.abort []"]
)
def test_a_damaged_model_card(tmp_path: Path, header: bytes) -> None:
    source = spm.build_checkpoint(tmp_path / "x")
    (source / "README.md").write_bytes(b"---\n" + header + b"\n---\n")
    with pytest.raises(SourceError, match=r"README\.md: its header is not valid YAML") as caught:
        plan(source)
    assert "take the file away" in caught.value.hint


# --- Tensors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rename", "prefix"),
    [
        (lambda name: f"_orig_mod.{name}", "'_orig_mod.model.'"),
        (lambda name: f"base_model.model.{name}", "'base_model.model.model.'"),
        (lambda name: name.removeprefix("model."), "''"),
    ],
)
def test_wrapped_models_are_recognised(
    tmp_path: Path, rename: Callable[[str], str], prefix: str
) -> None:
    source = spm.build_checkpoint(tmp_path / "x")
    store(source, rename)
    with pytest.raises(TensorError, match="20 tensors missing") as caught:
        plan(source)
    assert f"begin with {prefix}, not" in caught.value.hint


def test_all_duplicates_are_in_one_error(tmp_path: Path) -> None:
    source = spm.build_checkpoint(tmp_path / "x", shards=2)
    (source / "model.safetensors.index.json").unlink()
    store(source, str)
    expected = r"20 tensors are in more than one of model-00001.*: model\.embed.*\.\[0-1\]\.inp"
    with pytest.raises(SourceError, match=expected):
        plan(source)


def test_names_twice_in_one_header(tmp_path: Path) -> None:
    source = spm.build_checkpoint(tmp_path / "x")
    path = source / "model.safetensors"
    raw = re.sub(rb'"model\.layers\.1\.mlp\.up', b'"model.layers.0.mlp.up', path.read_bytes())
    raw = re.sub(rb'"model\.layers\.1\.mlp\.gate', b'"model.layers.0.mlp.gate', raw)
    path.write_bytes(raw)
    expected = r"twice: model\.layers\.0\.mlp\.gate_proj\.weight, model\.layers\.0\.mlp\.up_proj"
    with pytest.raises(SourceError, match=expected):
        plan(source)


def test_many_names_in_one_line() -> None:
    names = [f"l.{i}.w.{j}.x" for i in (0, 1, 2, 5, 10) for j in range(2)] + ["a", "b.c"]
    assert listed(names) == "a, b.c, l.[0-2,5,10].w.0.x, l.[0-2,5,10].w.1.x"
    assert listed(["m.3.w"]) == "m.3.w"
    assert listed([f"n{i}" for i in range(100)]).endswith(" and 76 more")


# --- Tokenizers ----------------------------------------------------------------------------------


def test_ids_that_two_tokens_have(tiny_checkpoint: Path, tmp_path: Path) -> None:
    source = shutil.copytree(tiny_checkpoint, tmp_path / "x")
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["qqqqqq"] = 500
    builders.write_json(source / "tokenizer.json", tokenizer)
    with pytest.raises(TokenizerError, match="'qqqqqq' both have the id 500"):
        plan(source)


@pytest.mark.parametrize("name", ["tekken.json", "vocab.json"])
def test_tokenizer_files_of_other_kinds(tmp_path: Path, name: str) -> None:
    source = spm.build_checkpoint(tmp_path / "x")
    (source / "tokenizer.model").rename(source / name)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: missing") as caught:
        plan(source)
    assert f"{name} cannot be read" in caught.value.hint


def test_a_byte_order_mark_in_a_tokenizer(tiny_checkpoint: Path, tmp_path: Path) -> None:
    source = shutil.copytree(tiny_checkpoint, tmp_path / "x")
    path = source / "tokenizer.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    with pytest.raises(SourceError, match=r"tokenizer\.json: begins with a byte order mark"):
        plan(source)


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ({"441": {"content": "e"}}, "tokens 365 and 441 are both 'e'"),
        ({"441": {"content": "[PAD445]"}}, r"tokens 441 and 445 are both '\[PAD445\]'"),
        ({"441": {"content": "a\0b"}}, "a token holds a zero byte"),
        ({"5": {"content": "<zz>"}}, "1 of 256 byte tokens missing, e.g. <0x02>"),
    ],
)
def test_vocabularies_that_llama_cpp_does_not_load(
    tmp_path: Path, added: dict[str, Any], message: str
) -> None:
    source = spm.build_checkpoint(tmp_path / "x")
    config = {**spm.TOKENIZER_CONFIG, "added_tokens_decoder": added}
    builders.write_json(source / "tokenizer_config.json", config)
    with pytest.raises(TokenizerError, match=message) as caught:
        plan(source)
    assert caught.value.hint
