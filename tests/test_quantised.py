"""Checkpoints that are quantised already: named by tool, whatever their tensors look like."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import builders
import numpy as np
import pytest

from edge_llama_convert import UnsupportedError, convert, plan

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

Stored = dict[str, tuple[str, "npt.NDArray[Any]"]]

CONFIG = {**builders.CONFIG, **builders.TINY_SHAPE}


def fp8(name: str, shape: tuple[int, ...]) -> Stored:
    scale = np.ones((1, 1), np.float32)
    data = np.zeros(shape, np.uint8)
    return {f"{name}.weight": ("F8_E4M3", data), f"{name}.weight_scale_inv": ("F32", scale)}


def int8(name: str, shape: tuple[int, ...]) -> Stored:
    scale = np.ones((shape[0], 1), np.float32)
    data = np.zeros(shape, np.int8)
    return {f"{name}.weight": ("I8", data), f"{name}.weight_scale": ("F32", scale)}


def gptq(name: str, shape: tuple[int, ...]) -> Stored:
    rows, columns = shape
    return {
        f"{name}.qweight": ("I32", np.zeros((columns // 8, rows), np.int32)),
        f"{name}.qzeros": ("I32", np.zeros((1, rows // 8), np.int32)),
        f"{name}.scales": ("F16", np.ones((1, rows), np.float16)),
        f"{name}.g_idx": ("I32", np.zeros(columns, np.int32)),
    }


def packed(name: str, shape: tuple[int, ...]) -> Stored:
    rows, columns = shape
    return {
        f"{name}.weight_packed": ("I32", np.zeros((rows, columns // 8), np.int32)),
        f"{name}.weight_scale": ("BF16", np.zeros((rows, 1), np.uint16)),
        f"{name}.weight_shape": ("I64", np.array(shape)),
    }


def nf4(name: str, shape: tuple[int, ...]) -> Stored:
    return {
        f"{name}.weight": ("U8", np.zeros((shape[0] * shape[1] // 2, 1), np.uint8)),
        f"{name}.weight.absmax": ("F32", np.ones(4, np.float32)),
        f"{name}.weight.quant_state.bitsandbytes__nf4": ("U8", np.zeros(80, np.uint8)),
    }


def llm_int8(name: str, shape: tuple[int, ...]) -> Stored:
    scale = np.ones(shape[0], np.float32)
    return {f"{name}.weight": ("I8", np.zeros(shape, np.int8)), f"{name}.SCB": ("F32", scale)}


def mlx(name: str, shape: tuple[int, ...]) -> Stored:
    rows, columns = shape
    return {
        f"{name}.weight": ("U32", np.zeros((rows, columns // 8), np.uint32)),
        f"{name}.scales": ("F16", np.ones((rows, 1), np.float16)),
        f"{name}.biases": ("F16", np.ones((rows, 1), np.float16)),
    }


def whole(name: str, shape: tuple[int, ...]) -> Stored:
    return {f"{name}.weight": ("BF16", np.zeros(shape, np.uint16))}


def make(folder: Path, store: Any, changes: dict[str, Any], **files: dict[str, Any]) -> Path:
    """A tiny checkpoint whose linear layers ``store`` keeps its way."""
    builders.build_tiny_checkpoint(folder, changes=changes)
    tensors: Stored = {}
    for name, values in builders.tiny_tensors(CONFIG).items():
        if name.endswith("_proj.weight"):
            tensors |= store(name.removesuffix(".weight"), values.shape)
        else:
            tensors[name] = ("BF16", builders.to_bf16(values))
    builders.write_safetensors(folder / "model.safetensors", tensors)
    for name, content in files.items():
        builders.write_json(folder / f"{name}.json", content)
    return folder


def stated(**entry: Any) -> dict[str, Any]:
    return {"quantization_config": entry}


_GROUP = {"group_0": {"weights": {"num_bits": 4, "type": "int", "strategy": "group"}}}


@pytest.mark.parametrize(
    ("store", "changes", "files", "message"),
    [
        (
            fp8,
            stated(quant_method="fp8", fmt="e4m3", weight_block_size=[128, 128]),
            {},
            "config.json: the weights are already quantised (quantization_config: fp8, e4m3)",
        ),
        (gptq, stated(quant_method="gptq", bits=4), {}, "(quantization_config: gptq, 4 bits)"),
        (gptq, stated(quant_method="awq", bits=4, version="gemm"), {}, ": awq, 4 bits)"),
        (
            packed,
            stated(
                quant_method="compressed-tensors", format="pack-quantized", config_groups=_GROUP
            ),
            {},
            ": compressed-tensors, pack-quantized, 4 bits)",
        ),
        (int8, {"compression_config": {"format": "int-quantized"}}, {}, "compressed-tensors, int-"),
        (
            nf4,
            stated(quant_method="bitsandbytes", load_in_4bit=True, bnb_4bit_quant_type="nf4"),
            {},
            ": bitsandbytes, nf4, 4 bits)",
        ),
        (llm_int8, stated(load_in_8bit=True), {}, ": bitsandbytes, 8 bits)"),
        (mlx, {"quantization": {"group_size": 64, "bits": 4}}, {}, "(quantization: mlx, 4 bits)"),
        (whole, stated(quant_method="bitnet"), {}, "(quantization_config: bitnet)"),
        (whole, {"quantization_config": "yes"}, {}, "(quantization_config: unknown method)"),
        (
            fp8,
            {},
            {"hf_quant_config": {"quantization": {"quant_algo": "FP8"}}},
            "hf_quant_config.json: the weights are already quantised (modelopt, FP8)",
        ),
        (gptq, {}, {"quantize_config": {"bits": 4}}, "quantize_config.json: the weights are"),
        # Nothing says it but the tensors.
        (gptq, {}, {}, "(gptq or awq: tensor model.layers.0.self_attn.q_proj.qweight, dtype I32)"),
        (fp8, {}, {}, "quantised (fp8: tensor "),
        (packed, {}, {}, "quantised (compressed-tensors: tensor "),
        (nf4, {}, {}, "quantised (bitsandbytes: tensor "),
        (llm_int8, {}, {}, "quantised (bitsandbytes: tensor "),
    ],
)
def test_the_tool_is_named(
    tmp_path: Path,
    store: Any,
    changes: dict[str, Any],
    files: dict[str, dict[str, Any]],
    message: str,
) -> None:
    source = make(tmp_path / "x", store, changes, **files)
    with pytest.raises(UnsupportedError, match=re.escape(message)) as caught:
        plan(source)
    assert str(source) in str(caught.value)
    assert "unquantised checkpoint" in caught.value.hint


@pytest.mark.parametrize(
    ("dtype", "stored", "remedy"),
    [
        ("I8", np.int8, "unquantised"),
        ("U8", np.uint8, "unquantised"),
        ("F8_E5M2", np.uint8, "unquantised"),
        ("I64", np.int64, "unquantised"),
        ("F64", np.float64, "bfloat16"),
    ],
)
def test_a_dtype_is_named_with_the_number_of_tensors(
    tmp_path: Path, dtype: str, stored: Any, remedy: str
) -> None:
    def store(name: str, shape: tuple[int, ...]) -> Stored:
        return {f"{name}.weight": (dtype, np.zeros(shape, stored))}

    with pytest.raises(UnsupportedError, match=rf"dtype {dtype} \({dtype}: 14 tensors\)") as caught:
        plan(make(tmp_path / "x", store, {}))
    assert remedy in caught.value.hint


def test_an_unknown_dtype(tmp_path: Path) -> None:
    source = make(tmp_path / "x", whole, {})
    path = source / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"BF16"', b'"FP12"', 1))
    with pytest.raises(UnsupportedError, match="dtype 'FP12', which is unknown"):
        plan(source)


def test_what_fine_tuning_left_behind_is_only_told(tmp_path: Path) -> None:
    entry = stated(quant_method="bitsandbytes", load_in_4bit=True)
    work = plan(make(tmp_path / "x", whole, entry))
    assert ["bitsandbytes, 4 bits, but the weights are whole" in note for note in work.notes] == [
        True
    ]
    convert(work, tmp_path / "out.gguf")
    (tmp_path / "plain").mkdir()
    assert plan(make(tmp_path / "plain" / "x", whole, {})).notes == ()


def test_buffers_may_be_of_any_dtype(tmp_path: Path) -> None:
    def store(name: str, shape: tuple[int, ...]) -> Stored:
        layer = name.split(".self_attn", maxsplit=1)[0].split(".mlp", maxsplit=1)[0]
        return {
            **whole(name, shape),
            f"{layer}.self_attn.rotary_emb.inv_freq": ("F64", np.ones(8)),
            f"{layer}.attention.bias": ("BOOL", np.ones((1, 4), np.uint8)),
        }

    work = plan(make(tmp_path / "x", store, {}))
    assert not any("inv_freq" in target.tensor.name for target in work.layout.targets)
