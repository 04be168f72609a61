"""Small random checkpoints of every supported family, for comparisons with llama.cpp.

``data/families.json`` holds the sha256 of what llama.cpp makes of these very checkpoints;
``benchmarks/identical_families.py --write`` makes it again.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import builders
import spm

DATA = Path(__file__).parent / "data"
TOKENIZER = DATA / "tokenizer.model"
DIGESTS = DATA / "families.json"
N_PIECES = 440

#: Row lengths: multiples of 256 as in real models; and 96 and 176, of which the first is a
#: multiple of 32 and the second of nothing a quantised type could use.
SHAPES = {
    "even": {"hidden_size": 256, "intermediate_size": 512},
    "ragged": {"hidden_size": 96, "intermediate_size": 176},
}

_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 4096,
    "num_attention_heads": 8,
    "num_hidden_layers": 3,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": False,
    "vocab_size": N_PIECES,
}
_MIXTRAL: dict[str, Any] = {
    **_LLAMA,
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "head_dim": None,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "sliding_window": None,
}
_TEMPLATES = [
    {"name": "default", "template": "{{ messages[0]['content'] }}"},
    {"name": "tool_use", "template": "{{ tools }}"},
]


def _without(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


@dataclass(frozen=True)
class Family:
    """What sets a family apart: config.json, dtype and the tokenizer's files.

    ``byte_level``: SmolLM2's tokenizer instead of SentencePiece; ``fast``: a tokenizer.json too.
    """

    config: dict[str, Any]
    dtype: str = "BF16"
    byte_level: bool = False
    fast: bool = False
    files: dict[str, Any] = field(default_factory=dict)


FAMILIES = {
    "llama-mha": Family({**_LLAMA, "architectures": ["LLaMAForCausalLM"]}, dtype="F16"),
    "llama-gqa-tied": Family(
        {
            **_LLAMA,
            "num_hidden_layers": 9,
            "num_key_value_heads": 2,
            "rope_scaling": {"type": "linear", "factor": 4.0},
            "rope_theta": 50000.0,
            "tie_word_embeddings": True,
        }
    ),
    "llama3": Family(
        {
            **_LLAMA,
            "num_key_value_heads": 2,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            "rope_theta": 500000.0,
            "tie_word_embeddings": True,
            "vocab_size": 49160,
        },
        byte_level=True,
        files={"generation_config.json": {"eos_token_id": [2, 0], "temperature": 0.5}},
    ),
    "llama-yarn": Family(
        {
            **_LLAMA,
            "num_key_value_heads": 2,
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 4.0,
                "beta_fast": 32,
                "beta_slow": 1,
                "original_max_position_embeddings": 64,
            },
        }
    ),
    "llama-biased": Family(
        {
            **_LLAMA,
            "attention_bias": True,
            "head_dim": 64,
            "mlp_bias": True,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 20000.0, "factor": 2.0},
        },
        dtype="F32",
    ),
    "llama2": Family(
        {**_LLAMA, "vocab_size": N_PIECES + 8},
        dtype="F16",
        fast=True,
        files={
            "added_tokens.json": {"<pad>": N_PIECES, "\u2581word": N_PIECES + 1, "<far>": 999},
            "tokenizer_config.json": {
                **spm.TOKENIZER_CONFIG,
                "add_prefix_space": True,
                "added_tokens_decoder": {
                    **spm.TOKENIZER_CONFIG["added_tokens_decoder"],
                    str(N_PIECES + 2): {"content": "<|turn|>", "special": False},
                    str(N_PIECES + 3): {"content": "\u2581two\u2581words", "special": False},
                },
            },
            "generation_config.json": {"eos_token_id": 2, "repetition_penalty": 1.1, "top_p": 0.9},
        },
    ),
    "mistral": Family(
        {
            **_without(_LLAMA, "max_position_embeddings", "rms_norm_eps"),
            "architectures": ["MistralForCausalLM"],
            "model_type": "mistral",
            "num_key_value_heads": 2,
            "sliding_window": None,  # one would be written, which llama.cpp's converter does not
        },
        files={
            "tokenizer_config.json": {**spm.TOKENIZER_CONFIG, "chat_template": _TEMPLATES},
        },
    ),
    "mixtral-8": Family({**_without(_MIXTRAL, "rms_norm_eps"), "num_local_experts": 8}),
    "mixtral-4": Family({**_MIXTRAL, "num_local_experts": 4, "rope_theta": 1e6}),
    "codellama": Family(
        {**_LLAMA, "num_hidden_layers": 1, "rope_theta": 1e6, "vocab_size": 32016}, dtype="F16"
    ),
}


def config(name: str, shape: str) -> dict[str, Any]:
    """The config.json of ``name`` in ``shape``."""
    return {**FAMILIES[name].config, **SHAPES[shape]}


def build(out: Path, name: str, shape: str) -> Path:
    """The checkpoint ``name`` in ``shape``, in the folder ``out/name-shape``."""
    family = FAMILIES[name]
    folder = out / f"{name}-{shape}"
    folder.mkdir(parents=True)
    weights = builders.tiny_tensors(config(name, shape))
    builders.write_safetensors(
        folder / "model.safetensors",
        {
            tensor: (family.dtype, builders.pack(values, family.dtype))
            for tensor, values in sorted(weights.items())
        },
    )
    builders.write_json(folder / "config.json", config(name, shape))
    if family.byte_level:
        builders.write_tokenizer(folder)
        _add_byte_level_processor(folder)
    else:
        shutil.copy(TOKENIZER, folder / "tokenizer.model")
        builders.write_json(folder / "tokenizer_config.json", spm.TOKENIZER_CONFIG)
    if family.fast:
        table = spm.pieces(TOKENIZER.read_bytes())
        spm.fast_tokenizer(table).save(str(folder / "tokenizer.json"))
    for file, content in family.files.items():
        builders.write_json(folder / file, content)
    return folder


def _add_byte_level_processor(folder: Path) -> None:
    """Give tokenizer.json the post-processor that the real one of SmolLM2 has."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["post_processor"] = {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": False,
        "use_regex": True,
    }
    builders.write_json(path, tokenizer)
