"""A LLaMA forward pass in numpy, from the original weights: what a conversion must reproduce.

Written from the published architecture (RMSNorm, rotary positions, grouped-query attention,
SwiGLU), independent of llama.cpp. Weights are asked for a few rows at a time, so memory stays
bounded; it is meant for a handful of tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from .params import LlamaParams
    from .rotation import Rotation

    Array = npt.NDArray[np.float32]


class Weights(Protocol):
    """Access to a model's weights by GGUF name, in float32."""

    def has(self, name: str) -> bool:
        """Whether the model has this tensor."""
        ...

    def vector(self, name: str) -> Array:
        """Return a whole one-dimensional tensor."""
        ...

    def rows(self, name: str, indices: Sequence[int]) -> Array:
        """Return some rows of a matrix, ``[len(indices), n_per_row]``."""
        ...

    def product(self, name: str, x: Array, expert: int | None = None) -> Array:
        """Return ``x @ W.T`` for ``x`` of ``[n, n_per_row]``: ``[n, rows]``.

        With ``expert``, W is that expert's part of a stacked tensor.
        """
        ...


def forward(
    weights: Weights, params: LlamaParams, rotation: Rotation, tokens: Sequence[int]
) -> Array:
    """Return the logits ``[len(tokens), vocab_size]`` of every position.

    Query and key rows are expected in GGUF's order, where rotation pairs neighbours.
    """
    x = weights.rows("token_embd.weight", tokens)
    turns = _turns(rotation, len(tokens))
    for layer in range(params.n_layers):
        block = f"blk.{layer}."
        normed = _rms_norm(x, weights.vector(f"{block}attn_norm.weight"), params.rms_norm_eps)
        x = x + _attention(weights, params, block, normed, turns)
        normed = _rms_norm(x, weights.vector(f"{block}ffn_norm.weight"), params.rms_norm_eps)
        x = x + (_experts if params.n_experts else _mlp)(weights, params, block, normed)
    x = _rms_norm(x, weights.vector("output_norm.weight"), params.rms_norm_eps)
    output = "output.weight" if weights.has("output.weight") else "token_embd.weight"
    return weights.product(output, x)


def _linear(weights: Weights, name: str, x: Array) -> Array:
    result = weights.product(f"{name}.weight", x)
    if weights.has(f"{name}.bias"):
        result = result + weights.vector(f"{name}.bias")
    return result


def _mlp(weights: Weights, _: LlamaParams, block: str, x: Array) -> Array:
    gate, up = (_linear(weights, f"{block}ffn_{name}", x) for name in ("gate", "up"))
    return _linear(weights, f"{block}ffn_down", _silu(gate) * up)


def _experts(weights: Weights, params: LlamaParams, block: str, x: Array) -> Array:
    """Mixtral's feed-forward: each token goes to its best experts, weighted among them."""
    scores = weights.product(f"{block}ffn_gate_inp.weight", x)
    used = np.argsort(-scores, axis=1, kind="stable")[:, : params.n_experts_used]
    chosen = np.take_along_axis(scores, used, axis=1)
    share = np.exp(chosen - chosen.max(axis=1, keepdims=True))
    share = share / share.sum(axis=1, keepdims=True)
    result = np.zeros_like(x)
    for expert in range(params.n_experts or 0):
        token, place = np.nonzero(used == expert)
        if len(token):
            part = x[token]
            gate = weights.product(f"{block}ffn_gate_exps.weight", part, expert)
            up = weights.product(f"{block}ffn_up_exps.weight", part, expert)
            down = weights.product(f"{block}ffn_down_exps.weight", _silu(gate) * up, expert)
            result[token] += down * share[token, place][:, None]
    return result


def _rms_norm(x: Array, weight: Array, epsilon: float) -> Array:
    scale = 1.0 / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + np.float32(epsilon))
    normed: Array = (x * scale * weight).astype(np.float32)
    return normed


def _silu(x: Array) -> Array:
    # Clipped where the exponential would overflow; the result is 0 there anyway.
    activated: Array = (x / (1.0 + np.exp(-np.clip(x, -80, None)))).astype(np.float32)
    return activated


def _turns(rotation: Rotation, count: int) -> tuple[Array, Array]:
    """Return cosine and sine of the first positions, ``[count, 1, head_dim / 2]`` each."""
    angles = np.arange(count, dtype=np.float64)[:, None, None] * rotation.frequencies
    cos, sin = np.cos(angles) * rotation.scale, np.sin(angles) * rotation.scale
    return cos.astype(np.float32), sin.astype(np.float32)


def _rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Rotate neighbouring pairs of ``x``, ``[n, heads, head_dim]``."""
    even, odd = x[..., 0::2], x[..., 1::2]
    result = np.empty_like(x)
    result[..., 0::2] = even * cos - odd * sin
    result[..., 1::2] = odd * cos + even * sin
    return result


def _attention(
    weights: Weights, params: LlamaParams, block: str, x: Array, turns: tuple[Array, Array]
) -> Array:
    count, head = len(x), params.head_dim
    query = _linear(weights, f"{block}attn_q", x).reshape(count, params.n_heads, head)
    key = _linear(weights, f"{block}attn_k", x).reshape(count, params.n_kv_heads, head)
    value = _linear(weights, f"{block}attn_v", x).reshape(count, params.n_kv_heads, head)
    query, key = _rotate(query, *turns), _rotate(key, *turns)
    key, value = (np.repeat(each, params.n_gqa, axis=1) for each in (key, value))
    scores = np.einsum("qhd,khd->hqk", query, key) / np.float32(np.sqrt(head))
    scores[:, np.triu_indices(count, 1)[0], np.triu_indices(count, 1)[1]] = -np.inf
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores = scores / scores.sum(axis=-1, keepdims=True)
    mixed = np.einsum("hqk,khd->qhd", scores, value).reshape(count, params.n_heads * head)
    return _linear(weights, f"{block}attn_output", mixed.astype(np.float32))
