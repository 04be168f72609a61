"""Each rule of the pre-flight on its own: what llama.cpp must not see is refused, and named.

With most of these files llama.cpp ends the process; test_hostile.py looks for others.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import ggufs
import pytest
import smallmodels

from edge_llama import ModelFileError, inspect

if TYPE_CHECKING:
    from pathlib import Path

LLAMA, TOKENIZER = "llama.", "tokenizer.ggml."


def refuse(tmp_path: Path, model: ggufs.GGUF, message: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(model.to_bytes())
    with pytest.raises(ModelFileError, match=message) as caught:
        inspect(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("vocabulary", "experts"), [("bpe", 0), ("spm", 0), ("spm", 4), ("bpe", 8)]
)
def test_sound_models_pass(tmp_path: Path, vocabulary: str, experts: int) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(smallmodels.small_llama(vocabulary, experts=experts).to_bytes())
    assert inspect(path).n_layers == smallmodels.LAYERS


@pytest.mark.parametrize(
    ("key", "kind", "value", "message"),
    [
        ("block_count", "u32", 0, "not within 1 to 512"),
        ("block_count", "u32", 513, "not within 1 to 512"),
        ("block_count", "i32", 2, "is i32, not u32"),
        ("block_count", "u32", 3, r"blk\.2\.attn_norm\.weight is missing"),
        ("block_count", "u32", 1, r"blk\.1\..* does not belong"),
        ("nextn_predict_layers", "u32", 3, "exceeds the number of layers"),
        ("context_length", "u32", 0, "not possible"),
        ("context_length", "f32", 512.0, "is f32, not u32"),
        ("embedding_length", "u32", 2**31, "not possible"),
        ("embedding_length", "u32", 128, "one even number"),
        ("feed_forward_length", "u32", 0, "missing or zero"),
        ("feed_forward_length", "u32", 192, r"ffn_gate\.weight has shape"),
        ("feed_forward_length", "arr[u32]", [96, 97], "differ in shape"),
        ("attention.head_count", "u32", 0, "no multiple"),
        ("attention.head_count", "u32", 5, "no multiple"),
        ("attention.head_count", "arr[u32]", [4], "no array of 2"),
        ("attention.head_count", "arr[i32]", [4, -4], "no array of 2"),
        ("attention.head_count", "arr[str]", ["4", "4"], "not u32 or"),
        ("attention.head_count_kv", "u32", 0, "no multiple"),
        ("attention.head_count_kv", "u32", 3, "no multiple"),
        ("attention.head_count_kv", "arr[u32]", [2, 1], "differ in shape"),
        # 16 * 2**26 is 0 in 32 bits, so that llama.cpp finds the tensors right
        ("attention.head_count_kv", "u32", 2**28 + 2, "no multiple"),
        ("attention.key_length", "u32", 32, "one even number"),
        ("attention.value_length", "u32", 32, "one even number"),
        ("rope.dimension_count", "u32", 8, "one even number"),
        ("rope.scaling.type", "str", "dynamic", "none of none, linear, yarn, longrope"),
        ("rope.scaling.type", "u32", 1, "is u32, not str"),
        ("attention.layer_norm_rms_epsilon", "f32", -1e-5, "not possible"),
        ("attention.layer_norm_rms_epsilon", "f32", math.nan, "not possible"),
        ("expert_count", "u32", 8, "not possible"),
        ("expert_used_count", "u32", 2, "not possible"),
        ("expert_group_count", "u32", 2, "does not fit"),
    ],
)
def test_hyper_parameters(tmp_path: Path, key: str, kind: str, value: Any, message: str) -> None:
    model = smallmodels.small_llama()
    model.set(LLAMA + key, kind, value)
    refuse(tmp_path, model, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expert_count": 2**11}, "not possible"),
        ({"expert_used_count": 5}, "not possible"),
        ({"expert_used_count": 0}, "not possible"),
        ({"expert_used_count": [2, 1]}, "differ in shape"),
        ({"expert_group_count": 3, "expert_group_used_count": 1}, "does not fit"),
        ({"expert_group_count": 2, "expert_group_used_count": 2}, "does not fit"),
        ({"expert_count": 3}, r"ffn_gate_inp\.weight has shape \[4, 64\]"),
    ],
)
def test_experts(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    model = smallmodels.small_llama("spm", experts=4)
    for key, value in changes.items():
        model.set(LLAMA + key, "arr[u32]" if isinstance(value, list) else "u32", value)
    refuse(tmp_path, model, message)


@pytest.mark.parametrize(
    "key",
    [
        *("block_count", "context_length", "embedding_length", "feed_forward_length"),
        *("attention.head_count", "attention.layer_norm_rms_epsilon"),
    ],
)
def test_missing_hyper_parameters_are_named(tmp_path: Path, key: str) -> None:
    model = smallmodels.small_llama()
    model.drop(LLAMA + key)
    refuse(tmp_path, model, "missing|no multiple")


def tensor(model: ggufs.GGUF, name: str) -> ggufs.Tensor:
    return next(tensor for tensor in model.tensors if tensor.name == name.encode())


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("blk.0.attn_norm.weight", "F16", "of 1 dimensions has type F16"),
        ("rope_freqs.weight", "F16", "of 1 dimensions has type F16"),
        ("blk.0.attn_q.weight", "I32", "of 2 dimensions has type I32"),
        ("blk.0.attn_q.weight", "Q8_1", "of 2 dimensions has type Q8_1"),
        ("token_embd.weight", "F64", "of 2 dimensions has type F64"),
    ],
)
def test_types_that_ggml_cannot_compute_with(
    tmp_path: Path, name: str, kind: str, message: str
) -> None:
    model = smallmodels.small_llama()
    chosen = tensor(model, name)
    chosen.number, chosen.data = ggufs.TYPE_NUMBERS[kind], bytes(10**6)
    if kind in {"F16", "I32", "F64"}:
        size = {"F16": 2, "I32": 4, "F64": 8}[kind]
        chosen.data = bytes(math.prod(chosen.dims) * size)
    else:
        chosen.data = bytes(math.prod(chosen.dims) // 32 * 40)
    refuse(tmp_path, model, message)


def test_tensors_that_are_missing_too_many_or_turned(tmp_path: Path) -> None:
    model = smallmodels.small_llama()
    model.tensors.remove(tensor(model, "blk.1.ffn_up.weight"))
    refuse(tmp_path, model, r"blk\.1\.ffn_up\.weight is missing")
    model = smallmodels.small_llama()
    tensor(model, "blk.1.ffn_up.weight").name = b"blk.1.ffn_up.wight"
    refuse(tmp_path, model, r"blk\.1\.ffn_up\.weight is missing")
    model = smallmodels.small_llama()
    model.tensors.append(ggufs.Tensor(b"blk.1.extra.weight", (1,), 0, bytes(4)))
    refuse(tmp_path, model, r"blk\.1\.extra\.weight does not belong")
    model = smallmodels.small_llama()
    chosen = tensor(model, "blk.0.ffn_up.weight")
    chosen.dims = chosen.dims[::-1]
    refuse(tmp_path, model, r"ffn_up\.weight has shape \[64, 96\]; \[96, 64\] was expected")
    model = smallmodels.small_llama()
    model.tensors.clear()
    refuse(tmp_path, model, "no weights")


def test_data_that_cannot_be_mapped_as_it_lies(tmp_path: Path) -> None:
    """ggml asserts that mapped tensors begin at a multiple of 32."""
    model = smallmodels.small_llama()
    model.alignment = 8
    model.set("general.alignment", "u32", 8)
    model.set("general.name", "str", "x" * next(n for n in range(32) if _start(model, n) % 32 == 8))
    refuse(tmp_path, model, "not at a multiple of 32")


def _start(model: ggufs.GGUF, name: int) -> int:
    model.set("general.name", "str", "x" * name)
    model.to_bytes()
    return model.marks[-1]


def _changed(texts: list[bytes], changes: dict[int, bytes]) -> list[bytes]:
    return [changes.get(at, text) for at, text in enumerate(texts)]


BPE, SPM = (smallmodels.small_llama(name).strings(TOKENIZER + "tokens") for name in ("bpe", "spm"))
N_BPE = len(BPE)


@pytest.mark.parametrize(
    ("vocabulary", "key", "kind", "value", "message"),
    [
        ("bpe", "tokens", "str", "a", "is str, not"),
        ("bpe", "tokens", "arr[str]", [], "no tokens"),
        ("bpe", "tokens", "arr[str]", BPE[:-1], r"token_embd\.weight has shape \[294, 64\]; \[293"),
        ("bpe", "tokens", "arr[str]", _changed(BPE, {7: BPE[5]}), "tokens 5 and 7 are the same"),
        # C ends a text at a zero byte, so these two are the same
        ("bpe", "tokens", "arr[str]", _changed(BPE, {7: BPE[5] + b"\0x"}), "tokens 5 and 7"),
        ("bpe", "tokens", "arr[str]", _changed(BPE, {7: b"", 9: b"[EMPTY_7]"}), "the same text"),
        ("bpe", "tokens", "arr[str]", _changed(BPE, {7: b"x" * 3000}), "the longest of 3,000"),
        ("bpe", "tokens", "arr[str]", [b"%0999d" % n for n in range(N_BPE)], "such tokens"),
        ("bpe", "token_type", "arr[u32]", [1] * N_BPE, "not arr"),
        ("bpe", "token_type", "arr[i32]", [1] * (N_BPE - 1), "has 293 items"),
        ("bpe", "token_type", "arr[i32]", [7] * N_BPE, "other than 0 to 6"),
        ("bpe", "token_type", "arr[i32]", [6] * N_BPE, "stand for none"),
        ("spm", "scores", "arr[f64]", [0.0] * len(SPM), "is arr.f64"),
        ("spm", "scores", "arr[f32]", [0.0], "has 1 items"),
        ("spm", "scores", "arr[f32]", [math.nan] * len(SPM), "NaN"),
        ("bpe", "merges", "arr[str]", ["a b"] * 10_000, "many times as long"),
        ("bpe", "merges", "arr[u32]", [1], "is arr.u32., not arr.str"),
        ("bpe", "bos_token_id", "u32", N_BPE, "not in the vocabulary of 294"),
        ("bpe", "eos_token_id", "u32", N_BPE, "not in the vocabulary of 294"),
        ("bpe", "eos_token_id", "i32", 1, "is i32, not u32"),
        ("bpe", "pre", "u32", 1, "is u32, not str"),
        ("bpe", "model", "str", "none", "no tokenizer"),
        # other tokenizers over this vocabulary: what they need is not there
        ("bpe", "model", "str", "llama", "no token for the byte 0x00"),
        ("bpe", "model", "str", "plamo2", "no token for the byte 0x00"),
        ("bpe", "model", "str", "rwkv", "only .* of the 256 bytes"),
        ("spm", "model", "str", "bert", "stand for none"),
        ("spm", "tokens", "arr[str]", _changed(SPM, {13: b"<0x0B>x"}), "byte 0x0A"),
        ("spm", "add_eos_token", "u32", 1, "is u32, not bool"),
    ],
)
def test_vocabularies(
    tmp_path: Path, vocabulary: str, key: str, *, kind: str, value: Any, message: str
) -> None:
    model = smallmodels.small_llama(vocabulary)
    model.set(TOKENIZER + key, kind, value)
    refuse(tmp_path, model, message)


@pytest.mark.parametrize("key", ["tokens", "model", "merges"])
def test_missing_parts_of_the_tokenizer_are_named(tmp_path: Path, key: str) -> None:
    model = smallmodels.small_llama()
    model.drop(TOKENIZER + key)
    refuse(tmp_path, model, f"{TOKENIZER}{key}")


def few_tokens(count: int, changes: dict[str, tuple[str, Any]]) -> ggufs.GGUF:
    """A byte-level model of so few tokens that the tokenizer's own special ids are not there."""
    model = smallmodels.small_llama()
    model.set(TOKENIZER + "tokens", "arr[str]", BPE[:count])
    model.set(TOKENIZER + "token_type", "arr[i32]", [1] * count)
    for name in ("bos_token_id", "eos_token_id"):
        model.drop(TOKENIZER + name)
    for name, (kind, value) in changes.items():
        model.set(TOKENIZER + name, kind, value)
    embedding = tensor(model, "token_embd.weight")
    embedding.dims, embedding.data = (64, count), embedding.data[: 128 * count]
    return model


def test_a_special_token_that_is_inserted_must_exist(tmp_path: Path) -> None:
    refuse(tmp_path, few_tokens(8, {"add_bos_token": ("bool", True)}), r"inserts a token \(bos\)")
    refuse(
        tmp_path,
        few_tokens(8, {"add_bos_token": ("bool", False), "add_eos_token": ("bool", True)}),
        r"inserts a token \(eos\)",
    )
    model = few_tokens(8, {"add_bos_token": ("bool", False)})
    (tmp_path / "x.gguf").write_bytes(model.to_bytes())
    assert inspect(tmp_path / "x.gguf").n_vocab == 8


def charsmap(entries: list[int], texts: bytes, size: int | None = None) -> list[int]:
    blob = struct.pack(f"<{len(entries)}I", *entries)
    return [*(struct.pack("<I", len(blob) if size is None else size) + blob + texts)]


@pytest.mark.parametrize(
    ("value", "fine"),
    [
        (charsmap([0] * 256, b"a\0"), True),
        (charsmap([1 << 10] * 256 + [2**31 + 1] * 256, b"a\0"), True),
        (charsmap([512 << 10] + [0] * 255, b"a\0"), False),  # a step beyond the table
        (charsmap([0] * 255 + [2**31 + 2], b"a\0"), False),  # a text beyond the texts
        (charsmap([0] * 255, b"a\0"), False),
        (charsmap([0] * 256, b"ab"), False),
        (charsmap([0] * 256, b""), False),
        (charsmap([0] * 256, b"a\0", size=2**32 - 1), False),
        ([1, 2], False),
    ],
)
def test_the_normaliser_of_unigram_models(tmp_path: Path, value: list[int], *, fine: bool) -> None:
    model = smallmodels.small_llama()
    model.set(TOKENIZER + "model", "str", "t5")
    model.set(TOKENIZER + "precompiled_charsmap", "arr[u8]", value)
    if fine:
        (tmp_path / "x.gguf").write_bytes(model.to_bytes())
        inspect(tmp_path / "x.gguf")
    else:
        refuse(tmp_path, model, "charsmap is damaged")


def test_other_architectures_get_the_general_rules_only(tmp_path: Path) -> None:
    model = smallmodels.small_llama()
    model.set("general.architecture", "str", "mamba")
    for key in model.keys:
        key.name = key.name.replace(b"llama.", b"mamba.")
    model.drop("mamba.attention.head_count")
    model.drop("mamba.attention.head_count_kv")
    path = tmp_path / "x.gguf"
    path.write_bytes(model.to_bytes())
    assert inspect(path).hparams.n_head == (0, 0)
    model.set("mamba.block_count", "u32", 2**20)
    refuse(tmp_path, model, "not within 1 to 512")
