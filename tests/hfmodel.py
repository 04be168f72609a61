"""What transformers computes for a checkpoint, in numpy float64: positions and logits.

The formulas are those of ``modeling_rope_utils.py`` and ``modeling_llama.py``,
``modeling_mistral.py`` and ``modeling_mixtral.py``; test_long_context.py holds them against figures
that transformers computed. Nothing here comes from the converter.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


def rotation(config: Mapping[str, Any], length: int) -> tuple[Array, float]:
    """Radians per position, ``[head_dim / 2]``, and the scale of cosine and sine.

    ``length`` is the number of tokens of the text, on which "dynamic" depends.
    """
    rope = config["rope_parameters"]
    kind, theta = rope.get("rope_type", "default"), rope["rope_theta"]
    dim = config["hidden_size"] // config["num_attention_heads"]
    powers = np.arange(0, dim, 2) / dim
    plain = 1.0 / theta**powers
    factor = rope.get("factor", 1.0)
    if kind == "linear":
        return plain / factor, 1.0
    if kind == "dynamic":
        trained = config["max_position_embeddings"]
        stretch = factor * max(length, trained) / trained - (factor - 1)
        plain = 1.0 / (theta * stretch ** (dim / (dim - 2))) ** powers
        return plain, 1.0
    if kind == "llama3":
        return _llama3(plain, rope), 1.0
    if kind == "yarn":
        return _yarn(plain, rope), 0.1 * math.log(factor) + 1.0
    return plain, 1.0


def _llama3(plain: Array, rope: Mapping[str, Any]) -> Array:
    trained, factor = rope["original_max_position_embeddings"], rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    wavelength = 2 * math.pi / plain
    smooth = (trained / wavelength - low) / (high - low)
    mixed = (1 - smooth) * plain / factor + smooth * plain
    scaled = np.where(wavelength > trained / low, plain / factor, plain)
    is_medium = (wavelength >= trained / high) & (wavelength <= trained / low)
    result: Array = np.where(is_medium, mixed, scaled)
    return result


def _yarn(plain: Array, rope: Mapping[str, Any]) -> Array:
    trained, dim = rope["original_max_position_embeddings"], 2 * len(plain)

    def correction(turns: float) -> float:
        return dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(rope["rope_theta"]))

    low = max(math.floor(correction(rope.get("beta_fast", 32))), 0)
    high = min(math.ceil(correction(rope.get("beta_slow", 1))), dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / (max(high - low, 0.001)), 0, 1)
    mixed: Array = plain / rope["factor"] * ramp + plain * (1 - ramp)
    return mixed


def logprobs(
    weights: Mapping[str, npt.NDArray[np.float32]],
    config: Mapping[str, Any],
    tokens: Sequence[int],
    *,
    window: int | None = None,
) -> Array:
    """Log probabilities after each token, ``[len(tokens), vocab_size]``.

    With ``window`` a token sees only so many, itself included, as Mistral was trained.
    """
    model = {name: values.astype(np.float64) for name, values in weights.items()}
    frequencies, scale = rotation(config, len(tokens))
    angles = np.arange(len(tokens))[:, None, None] * np.concatenate([frequencies, frequencies])
    turns = np.cos(angles) * scale, np.sin(angles) * scale
    distance = np.arange(len(tokens))[:, None] - np.arange(len(tokens))
    hidden = (distance < 0) | (distance >= (window or len(tokens)))
    x = model["model.embed_tokens.weight"][list(tokens)]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        block = {
            name.removeprefix(prefix).removesuffix(".weight"): values
            for name, values in model.items()
            if name.startswith(prefix)
        }
        normed = _norm(x, block["input_layernorm"], config)
        x = x + _attention(block, config, normed, turns, hidden)
        normed = _norm(x, block["post_attention_layernorm"], config)
        x = x + (_experts if config.get("num_local_experts") else _mlp)(block, config, normed)
    x = _norm(x, model["model.norm.weight"], config)
    tied = config.get("tie_word_embeddings")
    logits = x @ model["model.embed_tokens.weight" if tied else "lm_head.weight"].T
    logits = logits - logits.max(axis=-1, keepdims=True)
    result: Array = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return result


def _norm(x: Array, weight: Array, config: Mapping[str, Any]) -> Array:
    variance = (x**2).mean(axis=-1, keepdims=True)
    normed: Array = x / np.sqrt(variance + config["rms_norm_eps"]) * weight
    return normed


def _attention(
    block: Mapping[str, Array],
    config: Mapping[str, Any],
    x: Array,
    turns: tuple[Array, Array],
    hidden: npt.NDArray[np.bool_],
) -> Array:
    heads, count = config["num_attention_heads"], len(x)
    query, key, value = (
        (x @ block[f"self_attn.{name}_proj"].T).reshape(count, -1, x.shape[1] // heads)
        for name in "qkv"
    )
    cos, sin = turns

    def rotate(values: Array) -> Array:
        first, second = np.split(values, 2, axis=-1)
        return values * cos + np.concatenate([-second, first], axis=-1) * sin

    shared = heads // key.shape[1]
    key, value = np.repeat(rotate(key), shared, axis=1), np.repeat(value, shared, axis=1)
    scores = np.einsum("qhd,khd->hqk", rotate(query), key) / math.sqrt(query.shape[-1])
    mixed = np.einsum("hqk,khd->qhd", _softmax(np.where(hidden, -np.inf, scores)), value)
    result: Array = mixed.reshape(count, -1) @ block["self_attn.o_proj"].T
    return result


def _mlp(block: Mapping[str, Array], _: Mapping[str, Any], x: Array) -> Array:
    gate, up, down = (block[f"mlp.{name}_proj"].T for name in ("gate", "up", "down"))
    result: Array = (_silu(x @ gate) * (x @ up)) @ down
    return result


def _experts(block: Mapping[str, Array], config: Mapping[str, Any], x: Array) -> Array:
    shares = _softmax(x @ block["block_sparse_moe.gate"].T)
    best = np.argsort(-shares, axis=-1)[:, : config["num_experts_per_tok"]]
    result = np.zeros_like(x)
    for row, chosen in enumerate(best):
        for expert in chosen:
            prefix = f"block_sparse_moe.experts.{expert}."
            gate, down, up = (block[f"{prefix}{name}"].T for name in ("w1", "w2", "w3"))
            part = (_silu(x[row] @ gate) * (x[row] @ up)) @ down
            result[row] += part * shares[row, expert] / shares[row, chosen].sum()
    return result


def _silu(x: Array) -> Array:
    activated: Array = x / (1 + np.exp(-x))
    return activated


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares
