"""Meta's params.json -> the keys of a Hugging Face config.json; all faults in one error.

Defaults and the size of the feed-forward layer: ModelArgs and FeedForward in Meta's llama
reference code.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .errors import ParamsError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Keys of models that are no plain LLaMA (Llama 4, vision, quantised, Mistral).
_FOREIGN = (
    *("moe", "moe_args", "vision_args", "vision_chunk_size", "vision_num_cross_attention_layers"),
    *("quantization_args", "lora_args", "hidden_dim", "head_dim", "sliding_window"),
)

#: Factor of Llama 3.1's and 3.2's rope scaling by (dim, n_layers). params.json only says that
#: rope is scaled; by how much stands in Meta's code and differs: 8 for 3.1 and 3.3 (8B, 70B,
#: 405B), 32 for 3.2 (1B, 3B; Llama Guard 3 1B is one of them). The shapes do not overlap.
_ROPE_FACTORS = {
    (4096, 32): 8.0,
    (8192, 80): 8.0,
    (16384, 126): 8.0,
    (2048, 16): 32.0,
    (3072, 28): 32.0,
}

_MAX = 2**31


def translate_params(
    path: Path, params: Mapping[str, Any], embedding_rows: int | None
) -> dict[str, Any]:
    """Return what config.json of the same model says; ``path`` is for messages.

    ``embedding_rows`` is the vocabulary's size where params.json leaves it open (-1).

    Raises:
        ParamsError: one error that names every key that is missing or wrong.
        UnsupportedError: the model is no plain LLaMA, or its rope scaling cannot be known.
    """
    foreign = [key for key in _FOREIGN if params.get(key) is not None]
    if foreign:
        raise UnsupportedError(
            f"{path}: {', '.join(foreign)}: not a plain LLaMA",
            hint="Use the model's Hugging Face files (config.json and *.safetensors).",
        )
    faults: list[str] = []

    def integer(key: str, default: int | None = None) -> int:
        value = params.get(key, default)
        if type(value) is not int or not 0 < value < _MAX:
            faults.append(f"{key} = {value!r}, not a positive int" if key in params else key)
            return 1
        return value

    def number(key: str, default: float) -> float:
        value = params.get(key, default)
        if type(value) not in {int, float} or not 0 < value < math.inf:
            faults.append(f"{key} = {value!r}, not a positive number")
            return default
        return float(value)

    dim, layers, heads = integer("dim"), integer("n_layers"), integer("n_heads")
    multiple_of = integer("multiple_of", 256)
    multiplier = number("ffn_dim_multiplier", 1.0) if params.get("ffn_dim_multiplier") else None
    # Meta's code truncates twice: two thirds of 4 * dim, then that times the multiplier.
    inner = int(2 * (4 * dim) / 3)
    if multiplier is not None:
        inner = int(min(multiplier * inner, _MAX))
    vocab_size = params.get("vocab_size", -1)
    rope: dict[str, Any] = {"rope_theta": number("rope_theta", 10000.0), "rope_type": "default"}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": dim,
        "intermediate_size": -(-inner // multiple_of) * multiple_of,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": integer("n_kv_heads") if params.get("n_kv_heads") else heads,
        "rms_norm_eps": number("norm_eps", 1e-5),
        "vocab_size": embedding_rows if vocab_size == -1 else integer("vocab_size"),
        "rope_parameters": rope,
    }
    if params.get("max_seq_len") is not None:
        config["max_position_embeddings"] = integer("max_seq_len")
    else:
        config["max_position_embeddings"] = _context_length(params)
    if faults:
        raise ParamsError(
            f"{path}: missing or wrong: {'; '.join(faults)}",
            hint="The file was edited or belongs to another model; fetch it again.",
        )
    if params.get("use_scaled_rope"):
        rope |= _scaling(path, params, (dim, layers))
    return config


def _scaling(path: Path, params: Mapping[str, Any], shape: tuple[int, int]) -> dict[str, Any]:
    factor = params.get("rope_scaling_factor", _ROPE_FACTORS.get(shape))
    if type(factor) not in {int, float} or not 1 <= factor < math.inf:
        raise UnsupportedError(
            f"{path}: use_scaled_rope, but the factor is not told, and no published model has "
            f"dim {shape[0]} and {shape[1]} layers",
            hint='Add the factor to params.json: "rope_scaling_factor": 8 for a model made from '
            "Llama 3.1 or 3.3, 32 for one made from 3.2.",
        )
    return {
        "rope_type": "llama3",
        "factor": float(factor),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def _context_length(params: Mapping[str, Any]) -> int:
    """Return the trained context in tokens, which params.json does not tell.

    Each generation is known by what changed with it. Llama 1's 65B alone is like Llama 2 in its
    norm_eps, but has no n_kv_heads, which Llama 2's 70B has. Key ``max_seq_len`` overrules this.
    """
    if params.get("use_scaled_rope"):
        return 131072  # Llama 3.1 and later
    theta = params.get("rope_theta", 10000.0)
    if theta == 500000.0:
        return 8192  # Llama 3
    if theta == 1000000.0:
        return 16384  # Code Llama
    first = params.get("norm_eps", 1e-5) == 1e-6 or (
        params.get("n_layers") == 80 and not params.get("n_kv_heads")
    )
    return 2048 if first else 4096
