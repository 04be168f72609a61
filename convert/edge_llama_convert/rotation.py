"""Rotary positions of a LLaMA: the angle of every pair of elements, and its scaling rules.

Formulas: ``_compute_*_parameters`` in transformers' modeling_rope_utils.py, which the references
below name by their rope type; YaRN's paper is https://arxiv.org/abs/2309.00071. llama.cpp's side
is ``rope_yarn`` and ``ggml_rope_cache_init`` in ggml-cpu/ops.cpp and llama_context's constructor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from .params import LlamaParams

    Frequencies = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rotation:
    """How positions turn queries and keys.

    Attributes:
        frequencies: radians per position of every pair, float64 ``[head_dim / 2]``.
        scale: multiplies cosine and sine; transformers' attention factor, llama.cpp's mscale.
    """

    frequencies: Frequencies
    scale: float = 1.0


def rotation_of(params: LlamaParams, factors: npt.NDArray[np.float32] | None = None) -> Rotation:
    """Return the rotation that the parameters ask for, within the trained context.

    ``factors`` divide the frequencies first: a GGUF's tensor ``rope_freqs.weight``. The type
    "dynamic" is "default" here: its base only grows with longer sequences.

    Raises:
        UnsupportedError: a rope type whose formula is not known.
    """
    exponents = np.arange(0, params.head_dim, 2, dtype=np.float64) / params.head_dim
    plain = params.rope_theta**-exponents
    if factors is not None:
        plain = plain / factors
    rope = params.rope
    if params.rope_type in {"default", "dynamic"}:
        return Rotation(plain)
    if params.rope_type == "linear":
        return Rotation(plain / float(rope["factor"]))
    if params.rope_type == "llama3":
        return Rotation(_llama3(plain, rope))
    if params.rope_type == "yarn":
        return Rotation(_yarn(plain, params), _yarn_scale(rope))
    raise UnsupportedError(
        f"no reference for rope type {params.rope_type!r}",
        hint="Everything but the forward pass can be checked.",
    )


def magnitude(factor: float, weight: float = 1.0) -> float:
    """Return YaRN's scale of cosine and sine for a context ``factor`` times as long.

    Without a weight it is what llama.cpp uses for every LLaMA, times ``rope.scaling.attn_factor``.
    """
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _llama3(plain: Frequencies, rope: Mapping[str, Any]) -> Frequencies:
    """Slow pairs are divided by the factor, fast ones stay, those between are mixed."""
    low, high = float(rope.get("low_freq_factor", 1.0)), float(rope.get("high_freq_factor", 4.0))
    trained = float(rope.get("original_max_position_embeddings", 8192))
    turns = trained * plain / (2 * math.pi)  # within the context of the first training
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    scaled: Frequencies = plain * (kept + (1.0 - kept) / float(rope["factor"]))
    return scaled


def _yarn(plain: Frequencies, params: LlamaParams) -> Frequencies:
    """Pairs with few turns in the first context are divided by the factor, along a ramp."""
    rope, dim = params.rope, params.head_dim
    trained = float(rope.get("original_max_position_embeddings", params.context_length))

    def pair_with(turns: float) -> float:
        return dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(params.rope_theta))

    low = pair_with(float(rope.get("beta_fast") or 32))
    high = pair_with(float(rope.get("beta_slow") or 1))
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((np.arange(dim // 2) - low) / (high - low), 0.0, 1.0)
    scaled: Frequencies = plain * (1.0 - ramp + ramp / float(rope["factor"]))
    return scaled


def _yarn_scale(rope: Mapping[str, Any]) -> float:
    if rope.get("attention_factor") is not None:
        return float(rope["attention_factor"])
    factor = float(rope["factor"])
    weight, all_dims = rope.get("mscale"), rope.get("mscale_all_dim")
    if weight and all_dims:
        return magnitude(factor, float(weight)) / magnitude(factor, float(all_dims))
    return magnitude(factor)
