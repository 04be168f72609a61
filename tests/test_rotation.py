"""Rope scaling, against numbers that transformers 5.23 computed (modeling_rope_utils)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import builders
import numpy as np
import pytest

from edge_llama_convert.params import LlamaParams, read_params
from edge_llama_convert.rotation import rotation_of

YARN = {"rope_type": "yarn", "rope_theta": 1e4}

# ROPE_INIT_FUNCTIONS[rope_type](LlamaConfig(hidden_size=64, num_attention_heads=4,
# max_position_embeddings=256, rope_parameters=...)): inverse frequencies and attention scaling.
KNOWN: dict[str, tuple[dict[str, Any], list[float], float]] = {
    "linear": (
        {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
        [0.25, 0.07905694, 0.025, 0.007905695, 0.0025, 0.0007905695, 0.00025, 7.905695e-05],
        1.0,
    ),
    "dynamic": (
        {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
        [1.0, 0.3162278, 0.1, 0.03162278, 0.01, 0.003162278, 0.001, 0.0003162278],
        1.0,
    ),
    "llama3": (
        {
            "rope_type": "llama3",
            "rope_theta": 5e5,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        [
            *(1.0, 0.07940301, 0.004700754, 0.0009115831),
            *(0.0001767767, 3.428102e-05, 6.64787e-06, 1.289173e-06),
        ],
        1.0,
    ),
    "yarn": (
        {**YARN, "factor": 4.0, "original_max_position_embeddings": 64},
        [1.0, 0.2371708, 0.05, 0.007905695, 0.0025, 0.0007905695, 0.00025, 7.905695e-05],
        1.138629436111989,
    ),
    "yarn-mscale": (
        {
            **YARN,
            "factor": 40.0,
            "original_max_position_embeddings": 4096,
            "mscale": 1.0,
            "mscale_all_dim": 0.8,
        },
        [1.0, 0.3162278, 0.1, 0.02391472, 0.005125, 0.0008498622, 2.5e-05, 7.905694e-06],
        1.0569662567531275,
    ),
    "yarn-attention": (
        {
            **YARN,
            "factor": 8.0,
            "original_max_position_embeddings": 2048,
            "attention_factor": 1.5,
        },
        [1.0, 0.3162278, 0.1, 0.02470529, 0.005625, 0.001087033, 0.000125, 3.952847e-05],
        1.5,
    ),
}


def params(rope: dict[str, Any]) -> LlamaParams:
    shape = {**builders.CONFIG, **builders.TINY_SHAPE, "max_position_embeddings": 256}
    return read_params({**shape, "rope_parameters": rope}, Path("config.json"))


@pytest.mark.parametrize("case", KNOWN)
def test_every_scaling_is_transformers_s(case: str) -> None:
    rope, frequencies, scale = KNOWN[case]
    rotation = rotation_of(params(rope))
    assert rotation.frequencies == pytest.approx(frequencies, rel=1e-6)
    assert rotation.scale == pytest.approx(scale, rel=1e-12)


def test_a_gguf_s_factors_divide_the_frequencies() -> None:
    factors = np.array([1, 2, 4, 8, 8, 8, 8, 8], np.float32)
    plain = rotation_of(params({"rope_theta": 1e4})).frequencies
    divided = rotation_of(params({"rope_theta": 1e4}), factors).frequencies
    assert divided == pytest.approx(plain / factors)
