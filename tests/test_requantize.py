"""A GGUF as source: the result of llama-quantize, and bad files."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import families
import gguf
import numpy as np
import pytest

from edge_llama_convert import (
    ConvertError,
    ParamsError,
    Recipe,
    SourceError,
    TensorError,
    UnsupportedError,
    convert,
    plan,
)
from edge_llama_convert.ggml import GGMLType, load_ggml
from edge_llama_convert.ggufsource import read_gguf_header
from edge_llama_convert.quantize import quantise_rows
from edge_llama_convert.requantize import model_name_of

if TYPE_CHECKING:
    from collections.abc import Callable

# sha256 of what `llama-quantize --allow-requantize` (llama.cpp as llama-cpp-python 0.3.36 vendors
# it) makes of the embedded model, a Q4_1 file.
LLAMA_QUANTIZE = {
    "q4_k_m": "dc0f3a02e821146247a0af6895adf9872124f368682cb110cb9ed09ff2a9f9f1",
    "q8_0": "7b46609d11703c058397e5cfe4cc6e4b2508cb1eb4c80ddc472a5d421fbdb508",
    "f16": "a269e3181fcbb25046f99f64ba8d3c159165b211c2ff4ffca7ba1bb219d2ccd0",
}

# Likewise, of the Q8_0 files of small mixtures of experts (families.py).
LLAMA_QUANTIZE_EXPERTS = {
    "mixtral-8": {
        "q4_k_m": "28ae142f924e9931b7af3078e461286eb2fe08a4c6388c2e016198f3a6a3db72",
        "q3_k_s": "88f252a46f94aa01af2e8c9d92b9bfe774a377297a28dd51d8804b8d1a460e16",
        "f16": "66cc64d64b05c6cf6987398376f162241629f47b70a60e19dd8f700beaf8c3c2",
    },
    "mixtral-4": {
        "q4_k_m": "c991995139a8c1492f6b4d8efc37fbcfd89422fa2018c3df828e3b06473d8a65",
        "q3_k_s": "6e5ff1b6cd238dd3be8adb56d687a4b412bca465e75079ade93cd45bd6d88dfc",
        "f16": "f47b8debf987aee79d692d0113fc87892cb42fdf147854dcba2a13db0541faaf",
    },
}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.model
@pytest.mark.parametrize("recipe", LLAMA_QUANTIZE)
def test_requantised_as_llama_quantize_does(embedded: Path, tmp_path: Path, recipe: str) -> None:
    out = tmp_path / "out.gguf"
    convert(plan(embedded, recipe=recipe, requantize=True), out)
    assert sha256(out) == LLAMA_QUANTIZE[recipe]


@pytest.fixture(scope="module")
def tiny_gguf(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint as a BF16 GGUF."""
    out = tmp_path_factory.mktemp("gguf") / "tiny-bf16.gguf"
    convert(plan(tiny_checkpoint, recipe="bf16"), out)
    return out


@pytest.mark.parametrize("recipe", ["q4_k_m", "q8_0", "bf16", "f16", "f32"])
def test_two_steps_equal_one(
    tiny_checkpoint: Path, tiny_gguf: Path, tmp_path: Path, recipe: str
) -> None:
    convert(plan(tiny_checkpoint, recipe=recipe), tmp_path / "one.gguf")
    convert(plan(tiny_gguf, recipe=recipe), tmp_path / "two.gguf")
    assert sha256(tmp_path / "one.gguf") == sha256(tmp_path / "two.gguf")


@pytest.mark.parametrize("name", ["mixtral-8", "mixtral-4"])
def test_a_mixture_of_experts(tmp_path: Path, name: str) -> None:
    source = families.build(tmp_path, name, "even")
    known = json.loads(families.DIGESTS.read_text(encoding="utf-8"))[source.name]
    convert(plan(source, recipe="bf16"), tmp_path / "bf16.gguf")
    convert(plan(source, recipe="q8_0"), tmp_path / "q8_0.gguf")
    for kind in Recipe:
        convert(plan(tmp_path / "bf16.gguf", recipe=kind), tmp_path / "a.gguf", force=True)
        assert sha256(tmp_path / "a.gguf") == known[kind.value], kind
    for recipe, digest in LLAMA_QUANTIZE_EXPERTS[name].items():
        work = plan(tmp_path / "q8_0.gguf", recipe=recipe, requantize=True)
        convert(work, tmp_path / "b.gguf", force=True)
        assert sha256(tmp_path / "b.gguf") == digest, recipe


def test_a_quantised_source_needs_the_flag(tiny_gguf: Path, tmp_path: Path) -> None:
    quantised = tmp_path / "x.gguf"
    convert(plan(tiny_gguf, recipe="q8_0"), quantised)
    with pytest.raises(UnsupportedError, match=r"already quantised \(.*weight is Q8_0\)") as caught:
        plan(quantised, recipe="q4_0")
    assert "--requantize" in caught.value.hint
    plan(quantised, recipe="q4_0", requantize=True)
    convert(plan(quantised, recipe="q8_0"), tmp_path / "same.gguf")  # copied: nothing is lost
    assert sha256(tmp_path / "same.gguf") == sha256(quantised)


@pytest.mark.parametrize("kind", [kind for kind in GGMLType if kind.is_quantised])
def test_a_type_is_decoded_as_the_gguf_package_does(kind: GGMLType) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 512)).astype(np.float32)
    packed = np.frombuffer(quantise_rows(kind, rows), dtype=np.uint8)
    values = np.empty_like(rows)
    load_ggml().to_float32(kind.name, packed.ctypes.data, values.ctypes.data, values.size)
    expected = gguf.quants.dequantize(packed.reshape(4, -1), gguf.GGMLQuantizationType(int(kind)))
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


def test_all_types_of_the_format_are_known_to_the_library() -> None:
    unknown = {kind.name for kind in gguf.GGMLQuantizationType} - {
        kind.name for kind in gguf.GGMLQuantizationType if load_ggml().can_decode(kind.name)
    }
    assert unknown == {"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct"),
        ("llama-3.2-1b-q4_k_m.gguf", "llama-3.2-1b"),
        ("Llama-7B-F16-00001-of-00003.gguf", "Llama-7B"),
        ("model-bf16.gguf", "model"),
        ("model_iq4_xs.gguf", "model"),
        ("f16.gguf", "f16"),
        ("Llama-2-7b.gguf", "Llama-2-7b"),
    ],
)
def test_the_default_name_drops_the_old_type(name: str, expected: str) -> None:
    assert model_name_of(Path(name)) == expected


def write_gguf(
    path: Path, *, change: Callable[[gguf.GGUFWriter, dict[str, Any]], None] | None = None
) -> Path:
    """A one-layer LLaMA in float32, without a tokenizer; ``change`` edits keys and tensors."""
    rng = np.random.default_rng(0)
    shapes = {
        **dict.fromkeys(("attn_q", "attn_output"), (64, 64)),
        **dict.fromkeys(("attn_k", "attn_v"), (32, 64)),
        **dict.fromkeys(("ffn_gate", "ffn_up"), (96, 64)),
        "ffn_down": (64, 96),
        **dict.fromkeys(("attn_norm", "ffn_norm"), (64,)),
    }
    tensors = {f"blk.0.{name}.weight": shape for name, shape in shapes.items()}
    tensors |= {"token_embd.weight": (320, 64), "output_norm.weight": (64,)}
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in tensors.items()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(0)
    writer.add_name("x")
    writer.add_block_count(1)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_context_length(64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_array("own.array", [1.5, 2.5])
    if change:
        change(writer, arrays)
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_unknown_keys_stay_and_the_file_s_own_come_last(tmp_path: Path) -> None:
    source = write_gguf(
        tmp_path / "x.gguf", change=lambda writer, _: writer.add_custom_alignment(64)
    )
    convert(plan(source, recipe="q8_0"), tmp_path / "out.gguf")
    before = read_gguf_header(source).metadata
    after = read_gguf_header(tmp_path / "out.gguf").metadata
    assert list(after)[-2:] == ["general.quantization_version", "general.file_type"]
    assert after["general.file_type"].value == 7
    kept = [key for key in before if key not in {"general.file_type", "general.alignment"}]
    assert list(after)[:-2] == kept
    assert all(after[key] == before[key] for key in kept)


def test_shards_become_one_file(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "x.gguf")
    folder = tmp_path / "shards"
    folder.mkdir()

    def shard(number: int) -> None:
        def change(writer: gguf.GGUFWriter, arrays: dict[str, Any]) -> None:
            for name in sorted(arrays)[1 - number :: 2]:
                del arrays[name]
            writer.add_uint16("split.no", number)
            writer.add_uint16("split.count", 2)
            writer.add_int32("split.tensors.count", 11)

        write_gguf(folder / f"x-{number + 1:05}-of-00002.gguf", change=change)

    shard(0)
    with pytest.raises(SourceError, match="1 of 2 shards missing: x-00002-of-00002"):
        plan(folder / "x-00001-of-00002.gguf")
    shard(1)
    with pytest.raises(SourceError, match="not the first shard"):
        plan(folder / "x-00002-of-00002.gguf")
    convert(plan(whole, recipe="q8_0"), tmp_path / "a.gguf")
    convert(plan(folder / "x-00001-of-00002.gguf", recipe="q8_0"), tmp_path / "b.gguf")
    assert sha256(tmp_path / "a.gguf") == sha256(tmp_path / "b.gguf")


def _set(key: str, value: int) -> Callable[[gguf.GGUFWriter, dict[str, Any]], None]:
    def change(writer: gguf.GGUFWriter, _: dict[str, Any]) -> None:
        for values in writer.kv_data:
            values.pop(key, None)
        writer.add_uint32(key, value)

    return change


def _experts_apart(writer: gguf.GGUFWriter, tensors: dict[str, Any]) -> None:
    writer.add_expert_count(2)
    writer.add_expert_used_count(1)
    for kind in ("gate", "up", "down"):
        experts = [tensors.pop(f"blk.0.ffn_{kind}.weight")] * 2
        tensors.update({f"blk.0.ffn_{kind}.{i}.weight": part for i, part in enumerate(experts)})


def _float_layers(writer: gguf.GGUFWriter, _: dict[str, Any]) -> None:
    writer.kv_data[0].pop("llama.block_count")
    writer.add_float32("llama.block_count", 1.0)


def _kv_heads_by_layer(writer: gguf.GGUFWriter, _: dict[str, Any]) -> None:
    writer.kv_data[0].pop("llama.attention.head_count_kv")
    writer.add_head_count_kv([2])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda _, t: t.pop("blk.0.ffn_up.weight"), TensorError, "1 tensors missing: blk.0.ffn_up"),
        (
            lambda _, t: t.update({"blk.0.attn_q.weight": np.ones((32, 64), np.float32)}),
            TensorError,
            r"attn_q.weight has shape \[32, 64\], its metadata calls for \[64, 64\]",
        ),
        (
            lambda _, t: t.update({"blk.1.attn_q.weight": np.ones((64, 64), np.float32)}),
            TensorError,
            "1 tensors unexpected: blk.1.attn_q.weight",
        ),
        (lambda _, t: t.pop("output_norm.weight"), TensorError, "missing: output_norm"),
        (lambda _, t: t.pop("token_embd.weight"), ParamsError, "token_embd.weight is missing"),
        (_set("llama.block_count", 2**31 - 1), ParamsError, "num_hidden_layers"),
        (_set("llama.attention.head_count_kv", 3), ParamsError, "no multiple"),
        (_set("llama.expert_count", 8), ParamsError, "llama.expert_used_count is missing"),
        (_experts_apart, UnsupportedError, r"tensors of its own \(blk.0.ffn_gate.0.weight\)"),
        (_kv_heads_by_layer, ParamsError, "head_count_kv is missing or differs by layer"),
        (_set("llama.rope.dimension_count", 8), ParamsError, "= 8, but a head has 16"),
        (lambda w, _: w.kv_data[0].pop("llama.block_count"), ParamsError, "llama.block_count is"),
        (lambda w, _: w.kv_data[0].pop("llama.context_length"), ParamsError, "context_length is"),
        (_float_layers, ParamsError, "llama.block_count = 1.0: not of the key's type"),
        (lambda w, _: w.kv_data[0].pop("general.architecture"), UnsupportedError, "None"),
        (
            lambda _, t: t.update({"output_norm.weight": np.ones(64, np.int64)}),
            UnsupportedError,
            "I64",
        ),
        (_set("split.count", 3), SourceError, "one of 3 shards"),
    ],
)
def test_what_is_no_complete_llama(
    tmp_path: Path, change: Any, error: type[ConvertError], message: str
) -> None:
    with pytest.raises(error, match=message):
        plan(write_gguf(tmp_path / "x.gguf", change=change))


def test_nan_is_found_in_copied_and_in_converted_tensors(tmp_path: Path) -> None:
    def spoil(_: gguf.GGUFWriter, tensors: dict[str, Any]) -> None:
        tensors["blk.0.ffn_up.weight"][3, 3] = np.nan

    with pytest.raises(TensorError, match=r"ffn_up\.weight: NaN or Inf"):
        convert(plan(write_gguf(tmp_path / "x.gguf", change=spoil)), tmp_path / "out.gguf")
    convert(plan(write_gguf(tmp_path / "y.gguf"), recipe="q8_0"), tmp_path / "q8.gguf")
    ref = read_gguf_header(tmp_path / "q8.gguf").tensors["blk.0.ffn_up.weight"]
    raw = bytearray((tmp_path / "q8.gguf").read_bytes())
    raw[ref.offset : ref.offset + 2] = b"\xff\x7f"  # the first block's scale
    (tmp_path / "q8.gguf").write_bytes(raw)
    for recipe in ("q8_0", "q4_0"):
        work = plan(tmp_path / "q8.gguf", recipe=recipe, requantize=True)
        with pytest.raises(TensorError, match=r"ffn_up\.weight: NaN or Inf"):
            convert(work, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


# --- Hostile headers -----------------------------------------------------------------------------


def test_every_truncated_header_is_an_error(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "x.gguf").read_bytes()
    path = tmp_path / "y.gguf"
    for length in [*range(1500), len(whole) - 200_000, len(whole) - 1]:
        path.write_bytes(whole[: max(0, length)])
        with pytest.raises(SourceError, match=r"y\.gguf"):
            read_gguf_header(path)


@pytest.mark.parametrize(
    "body",
    [
        struct.pack("<I2Q", 3, 2**60, 0),
        struct.pack("<I2Q", 3, 0, 2**60),
        struct.pack("<I2Q", 2**31, 0, 0),
        struct.pack("<I3Q", 3, 0, 1, 2**62),
        struct.pack("<I3Q", 3, 0, 1, 1) + b"k" + struct.pack("<2IQ", 9, 9, 2**40),
        struct.pack("<I3Q", 3, 0, 1, 1) + b"k" + struct.pack("<2IQ", 9, 8, 2**40),
        struct.pack("<I3Q", 3, 0, 1, 1) + b"k" + struct.pack("<2IQ", 9, 4, 2**62),
        struct.pack("<I3Q", 3, 0, 1, 1) + b"k" + struct.pack("<I", 77) + bytes(8),
        struct.pack("<I3Q", 3, 1, 0, 1) + b"t" + struct.pack("<I", 2**31) + bytes(16),
        struct.pack("<I3Q", 3, 1, 0, 1) + b"t" + struct.pack("<I2QIQ", 2, 2**40, 2**40, 0, 0),
        struct.pack("<I3Q", 3, 1, 0, 1) + b"t" + struct.pack("<I1QIQ", 1, 32, 4, 0),
        struct.pack("<I3Q", 3, 1, 0, 1) + b"t" + struct.pack("<I1QIQ", 1, 33, 8, 0),
        struct.pack("<I3Q", 3, 1, 0, 1) + b"t" + struct.pack("<I1QIQ", 1, 32, 0, 2**63),
    ],
)
def test_hostile_counts_cost_nothing(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + body)
    with pytest.raises(ConvertError):
        plan(path)
