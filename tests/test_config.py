from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edge_llama import InvalidOptionError, ModelConfig, Sampling
from edge_llama.config import with_options


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
        {"penalty_window": -1},
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
        {"mmap": 1},
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


def test_options_are_immutable_and_documented() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Sampling().top_k = 3  # type: ignore[misc]
    for cls in (ModelConfig, Sampling):
        for field in dataclasses.fields(cls):
            assert field.metadata["help"].endswith(".")
