from __future__ import annotations

from pathlib import Path
from typing import Any

import builders
import numpy as np
import pytest

from edge_llama_convert import ParamsError, UnsupportedError
from edge_llama_convert.params import LlamaParams, read_params
from edge_llama_convert.rope import frequency_factors

PATH = Path("config.json")
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def params(**changes: Any) -> LlamaParams:
    config = {**builders.CONFIG, **builders.REAL_SHAPE, **changes}
    return read_params({key: value for key, value in config.items() if value != "drop"}, PATH)


def test_defaults_are_those_of_transformers() -> None:
    read = params(
        head_dim="drop",
        num_key_value_heads="drop",
        max_position_embeddings="drop",
        rms_norm_eps="drop",
        rope_parameters="drop",
        tie_word_embeddings="drop",
    )
    assert read.head_dim == 576 // 9
    assert read.n_kv_heads == read.n_heads == 9
    assert (read.context_length, read.rms_norm_eps, read.rope_theta) == (2048, 1e-6, 10000.0)
    assert not read.tied_embeddings


def test_null_means_absent() -> None:
    assert params(head_dim=None, num_key_value_heads=None).n_kv_heads == 9


@pytest.mark.parametrize(
    "spelling",
    [
        {"rope_parameters": {**LLAMA3, "rope_theta": 500000.0}},
        {"rope_parameters": "drop", "rope_scaling": LLAMA3, "rope_theta": 500000.0},
    ],
)
def test_both_spellings_of_rope_are_read(spelling: dict[str, Any]) -> None:
    read = params(**spelling)
    assert (read.rope_type, read.rope_theta) == ("llama3", 500000.0)
    assert read.rope["factor"] == 32.0


def test_legacy_name_of_the_rope_type() -> None:
    scaling = {"type": "linear", "factor": 4.0}
    assert params(rope_parameters="drop", rope_scaling=scaling).rope_type == "linear"


def test_all_faults_are_in_one_error() -> None:
    with pytest.raises(ParamsError) as caught:
        params(hidden_size="drop", num_hidden_layers=-3, vocab_size="many", rms_norm_eps=True)
    for part in ("hidden_size is missing", "num_hidden_layers", "vocab_size", "rms_norm_eps"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 2}, "no multiple of num_key_value_heads"),
        ({"num_attention_heads": 7, "num_key_value_heads": 7, "head_dim": None}, "hidden_size 576"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "without 'factor'"),
        ({"rope_parameters": [1]}, "not an object"),
        ({"rope_parameters": {"rope_type": "linear", "factor": "4"}}, "factor = '4', not a pos"),
        ({"rms_norm_eps": float("inf")}, "not finite"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        params(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "architecture 'GPT2LMHeadModel'"),
        ({"architectures": "drop", "model_type": "drop"}, "architecture None"),
        ({"architectures": "drop", "model_type": "gemma"}, "architecture None"),
        ({"model_type": "qwen2"}, "'LlamaForCausalLM' contradicts model_type 'qwen2'"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "rope type 'longrope'"),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16}},
            "YaRN with beta_fast 16; supported is 32",
        ),
    ],
)
def test_what_would_talk_nonsense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message) as caught:
        params(**changes)
    assert caught.value.hint


def test_llama3_factors_follow_the_published_formula() -> None:
    read = params(rope_parameters={**LLAMA3, "rope_theta": 500000.0})
    factors = frequency_factors(read)
    assert factors is not None
    assert factors.dtype == np.float32
    assert factors.shape == (32,)
    # Independent of the code: Llama 3.2's scaling in float64.
    for i, factor in enumerate(factors):
        wavelength = 2 * np.pi * 500000.0 ** (2 * i / 64)
        smooth = (8192 / wavelength - 1) / (4 - 1)
        expected = 1 / ((1 - min(max(smooth, 0), 1)) / 32 + min(max(smooth, 0), 1))
        assert factor == pytest.approx(expected, rel=1e-5)
    assert factors[0] == 1.0
    assert factors[-1] == 32.0


def test_other_rope_types_have_no_factors() -> None:
    assert frequency_factors(params()) is None


def family(architecture: str, **changes: Any) -> LlamaParams:
    absent = ("head_dim", "max_position_embeddings", "rms_norm_eps", "rope_parameters")
    dropped = dict.fromkeys((*absent, "num_key_value_heads", "model_type"), "drop")
    shape = {"num_attention_heads": 8, "hidden_size": 512}
    return params(architectures=[architecture], **{**dropped, **shape, **changes})


def test_mistral_s_defaults() -> None:
    read = family("MistralForCausalLM", sliding_window=4096)
    assert (read.context_length, read.rms_norm_eps, read.rope_theta) == (131072, 1e-6, 1e4)
    assert (read.n_kv_heads, read.head_dim, read.states_head_dim) == (8, 64, True)
    assert read.n_experts is None


def test_the_sliding_window() -> None:
    assert family("MistralForCausalLM").sliding_window == 4096
    assert family("MistralForCausalLM", sliding_window=None).sliding_window is None
    assert family("MistralForCausalLM", sliding_window=1024).sliding_window == 1024
    assert family("MixtralForCausalLM").sliding_window is None
    assert family("MixtralForCausalLM", sliding_window=64).sliding_window == 64
    assert family("LlamaForCausalLM", sliding_window=64).sliding_window is None  # not heeded
    with pytest.raises(ParamsError, match="sliding_window = 'wide'"):
        family("MistralForCausalLM", sliding_window="wide")


def test_mixtral_s_defaults() -> None:
    read = family("MixtralForCausalLM", head_dim=None)
    assert (read.context_length, read.rms_norm_eps, read.rope_theta) == (131072, 1e-5, 1e6)
    assert (read.n_experts, read.n_experts_used) == (8, 2)
    assert (read.head_dim, read.states_head_dim) == (64, False)
    assert family("MixtralForCausalLM", head_dim=32).states_head_dim


def test_null_is_not_missing_for_kv_heads() -> None:
    assert family("MistralForCausalLM", num_attention_heads=16).n_kv_heads == 8
    assert family("MistralForCausalLM", num_attention_heads=16, num_key_value_heads=None) == (
        family("MistralForCausalLM", num_attention_heads=16, num_key_value_heads=16)
    )


def test_the_model_type_decides_the_defaults() -> None:
    # A fine-tune's configuration may name another class than the one it is of.
    assert family("LlamaForCausalLM", model_type="mistral").context_length == 131072
    assert family("LLaMAForCausalLM", model_type="unknown").context_length == 2048


def test_more_experts_per_token_than_experts() -> None:
    with pytest.raises(ParamsError, match="num_experts_per_tok 9 is more than"):
        family("MixtralForCausalLM", num_experts_per_tok=9)


def test_counts_beyond_llama_cpp_s_limits() -> None:
    with pytest.raises(ParamsError, match="num_hidden_layers = 2000000000, llama"):
        params(num_hidden_layers=2_000_000_000)
    with pytest.raises(ParamsError, match="num_local_experts = 99999"):
        family("MixtralForCausalLM", num_local_experts=99999)
