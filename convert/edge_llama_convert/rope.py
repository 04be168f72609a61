"""Llama 3's per-frequency rope factors, as the tensor ``rope_freqs.weight``.

Formula: ``_compute_llama3_parameters`` in transformers' modeling_rope_utils. llama.cpp divides
each frequency by its factor. The float32 steps below are those that torch takes (a scalar divided
by a tensor is its reciprocal times the scalar), so the bytes equal convert_hf_to_gguf.py's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from .params import LlamaParams


def frequency_factors(params: LlamaParams) -> npt.NDArray[np.float32] | None:
    """Return float32 factors of shape ``[head_dim / 2]``, or None for other rope types."""
    if params.rope_type != "llama3":
        return None
    one = np.float32(1.0)
    rope = params.rope
    factor = np.float32(rope.get("factor", 8.0))
    low, high = float(rope.get("low_freq_factor", 1.0)), float(rope.get("high_freq_factor", 4.0))
    trained = float(rope.get("original_max_position_embeddings", 8192))
    exponents = np.arange(0, params.head_dim, 2, dtype=np.float32) / np.float32(params.head_dim)
    powers = (params.rope_theta ** exponents.astype(np.float64)).astype(np.float32)
    factors = np.ones(len(powers), dtype=np.float32)
    for i, power in enumerate(powers):
        wavelength = (one / (one / power)) * np.float32(2 * math.pi)
        if wavelength < trained / high:
            continue
        if wavelength > trained / low:
            factors[i] = factor
        else:
            ratio = (one / wavelength) * np.float32(trained)
            smooth = (ratio - np.float32(low)) / np.float32(high - low)
            factors[i] = one / ((one - smooth) / factor + smooth)
    return factors
