from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edge_llama import InvalidOptionError, ModelConfig, Sampling
from edge_llama.rules import with_options


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"top_k": -1},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"repeat_penalty": 0.0},
        {"penalty_last_n": -1},
        {"penalty_last_n": 65537},
        {"temperature": 1e-40},
        {"temperature": 1e300},
        {"dynatemp_range": -1},
        {"dynatemp_exponent": float("inf")},
        {"typical_p": 1.1},
        {"top_n_sigma": -1},
        {"xtc_probability": 2},
        {"xtc_threshold": -0.1},
        {"frequency_penalty": float("nan")},
        {"presence_penalty": "no"},
        {"dry_multiplier": -1},
        {"dry_base": 0.9},
        {"dry_allowed_length": 0},
        {"dry_penalty_last_n": -1},
        {"dry_sequence_breakers": ("x" * 41,)},
        {"dry_sequence_breakers": ("a\0b",)},
        {"mirostat": 3},
        {"mirostat": True},
        {"mirostat_tau": -1},
        {"mirostat_eta": "fast"},
        {"samplers": ("top_q",)},
        {"samplers": (3,)},
        {"logit_bias": {"": 1.0}},
        {"logit_bias": {-1: 1.0}},
        {"logit_bias": {1: float("inf")}},
        {"logit_bias": {1: float("nan")}},
        {"logit_bias": ((1, 2, 3),)},
        {"logit_bias": 3},
        {"logprobs": -1},
        {"logprobs": 101},
        {"seed": -1},
        {"seed": 2**32},
        {"max_tokens": 0},
        {"max_tokens": True},
        {"stop": ("",)},
        {"stop": (3,)},
    ],
)
def test_impossible_sampling_is_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(InvalidOptionError, match=name) as caught:
        Sampling(**options)
    assert caught.value.hint


@pytest.mark.parametrize(
    "options",
    [
        {"n_ctx": 0},
        {"n_ctx": 1.5},
        {"threads": 0},
        {"n_batch": 0},
        {"kv_type": "q3_k"},
        {"gpu_layers": -2},
        {"gpu_layers": "all"},
        {"mmap": 1},
        {"memory": "much"},
        {"memory": 0},
        {"memory": "0GiB"},
        {"n_ubatch": 0},
        {"device": ""},
        {"repack": True},
        {"flash_attention": "yes"},
        {"mlock": "on"},
        {"numa": "mirror"},
    ],
)
def test_impossible_configuration_is_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(InvalidOptionError, match=name):
        ModelConfig(**options)


def test_an_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(InvalidOptionError, match="unknown option 'n_ctxx'") as caught:
        with_options(ModelConfig(), {"n_ctxx": 3})
    assert "n_ctx" in caught.value.hint


def test_one_stop_string_may_stand_alone() -> None:
    assert Sampling(stop="END").stop == ("END",)  # type: ignore[arg-type]
    assert Sampling(stop=["a", "b"]).stop == ("a", "b")  # type: ignore[arg-type]


def test_what_several_values_may_be_given_as() -> None:
    mapping, pairs = (
        Sampling(logit_bias={5: 1, "x": -2.0}),
        Sampling(logit_bias=((5, 1), ("x", -2))),
    )
    assert mapping == pairs
    assert hash(mapping) == hash(pairs)
    spellings = Sampling(samplers=["Top-K", "nucleus", "temp"])  # type: ignore[arg-type]
    assert spellings.samplers == ("top_k", "top_p", "temperature")


def test_what_is_not_set_comes_from_the_model_then_from_llama_cpp() -> None:
    metadata = {
        "general.sampling.temp": 0.6,
        "general.sampling.top_k": 20,
        "general.sampling.top_p": 0.9,
        "general.sampling.penalty_repeat": 1.1,
        "general.sampling.sequence": "top-k;temp",
        "general.name": "x",
    }
    resolved = Sampling(top_k=0, seed=3).resolve(metadata)
    assert (resolved.temperature, resolved.top_k, resolved.top_p) == (0.6, 0, 0.9)
    assert (resolved.repeat_penalty, resolved.min_p) == (1.1, 0.05)
    assert (resolved.samplers, resolved.seed) == (("top_k", "temperature"), 3)
    assert resolved.resolve({"general.sampling.temp": 2.0}) == resolved
    default = Sampling().resolve({})
    assert (default.temperature, default.top_k, default.top_p) == (0.8, 40, 0.95)
    assert (default.seed, default.max_tokens, default.logprobs) == (None, None, None)


def test_a_model_s_nonsense_is_not_taken_over(caplog: pytest.LogCaptureFixture) -> None:
    metadata = {
        "general.sampling.temp": -1.0,  # llama.cpp: as 0
        "general.sampling.top_k": -1,  # llama.cpp: all
        "general.sampling.top_p": 7.0,
        "general.sampling.min_p": float("nan"),
        "general.sampling.penalty_repeat": 0.0,
        "general.sampling.penalty_last_n": 2**31 - 1,
        "general.sampling.mirostat": 7,
        "general.sampling.mirostat_tau": "much",
        "general.sampling.sequence": "top_k;quantum",
    }
    resolved = Sampling().resolve(metadata)
    assert (resolved.temperature, resolved.top_k, resolved.top_p) == (0, 0, 1)
    assert (resolved.min_p, resolved.repeat_penalty, resolved.penalty_last_n) == (0.05, 1.0, 65536)
    assert (resolved.mirostat, resolved.mirostat_tau) == (0, 5.0)
    assert resolved.samplers == ("top_k",)
    for key in ("min_p", "penalty_repeat", "mirostat", "mirostat_tau", "sequence"):
        assert f"general.sampling.{key} =" in caplog.text


def test_options_are_immutable_and_documented() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Sampling().top_k = 3  # type: ignore[misc]
    for cls in (ModelConfig, Sampling):
        for field in dataclasses.fields(cls):
            assert field.metadata["help"].endswith(".")
