"""Choosing among the likeliest tokens only, against llama.cpp's way over all of them."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge_llama.native
from edge_llama import Model, Sampling
from edge_llama.native.choose import count_likeliest, load_chooser

LIBRARY = Path(edge_llama.native.__file__).with_name("_choose.so")

compiled = pytest.mark.skipif(
    not LIBRARY.is_file(), reason="it was not compiled: python convert/kernels/build.py"
)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 40),
        ({"top_k": 7}, 7),
        ({"top_k": 0}, None),
        ({"top_k": 1000}, None),
        ({"temperature": 0}, 1),
        ({"temperature": 0, "repeat_penalty": 1.1}, None),
        ({"repeat_penalty": 1.1}, None),
        ({"repeat_penalty": 1.1, "penalty_last_n": 0}, 40),
        ({"presence_penalty": 0.5}, None),
        ({"dry_multiplier": 0.8}, None),
        ({"top_n_sigma": 1.0}, None),
        ({"min_p": 0.3, "typical_p": 0.5, "xtc_probability": 0.5}, 40),
        ({"mirostat": 2}, None),
        ({"samplers": ("top_p", "top_k")}, None),
        ({"samplers": ("top_p", "top_k"), "top_p": 1.0}, 40),
        ({"samplers": ("temperature", "top_k")}, None),
        ({"samplers": ("min_p",)}, None),
    ],
    ids=str,
)
def test_who_has_a_say(options: dict[str, Any], count: int | None) -> None:
    assert count_likeliest(Sampling(**options).resolve({})) == count


class Candidate(ctypes.Structure):
    _fields_ = (("id", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float))


class Candidates(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.POINTER(Candidate)),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    )


def offered(logits: np.ndarray[Any, Any], k: int) -> tuple[int, list[int]]:
    """Return what the library returns, and the ids that it offers; the last one is chosen."""
    library = ctypes.CDLL(str(LIBRARY))
    ids: list[int] = []
    accepted: list[int] = []

    def apply(_: int, array: Any) -> None:
        ids.extend(array[0].data[i].id for i in range(array[0].size))
        for i, token in enumerate(ids):
            assert array[0].data[i].logit == logits[token]
        array[0].selected = array[0].size - 1

    functions = (
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(Candidates))(apply),
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32)(
            lambda _, token: accepted.append(token)
        ),
        ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)(
            lambda _, __: logits.ctypes.data
        ),
    )
    token = library.edge_choose(None, None, 0, len(logits), k, *functions)
    assert accepted == ([] if token < 0 else [token])
    return token, ids


@compiled
@pytest.mark.parametrize("n_vocab", [1, 40, 41, 63, 64, 65, 127, 1000, 49152])
@pytest.mark.parametrize("k", [1, 2, 40, 256])
def test_the_likeliest_are_found(n_vocab: int, k: int) -> None:
    draw = np.random.default_rng(n_vocab + k)
    for logits in (
        draw.normal(0, 5, n_vocab),
        np.arange(n_vocab),
        -np.arange(n_vocab),
        draw.integers(0, 4, n_vocab),  # many are equal
        np.where(draw.random(n_vocab) < 0.99, -np.inf, draw.normal(0, 5, n_vocab)),  # masked
    ):
        values = np.ascontiguousarray(logits, dtype=np.float32)
        token, ids = offered(values, k)
        if k > n_vocab:
            assert (token, ids) == (-1, [])
            continue
        assert len(set(ids)) == k
        assert token == ids[-1]
        assert np.array_equal(np.sort(values[ids]), np.sort(values)[n_vocab - k :])


@compiled
@pytest.mark.model
@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 1.6, "top_k": 200, "min_p": 0.0}, {"temperature": 0}, {"typical_p": 0.7}],
    ids=str,
)
def test_the_tokens_are_those_of_llama_cpp(
    model: Model, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_chooser() is not None
    sampling = Sampling(seed=11, max_tokens=40, **options)
    prompt = "Tell me of a journey."
    model.generate(prompt, sampling=Sampling(max_tokens=1))  # both find the prompt in the cache
    ours = model.generate(prompt, sampling=sampling)
    monkeypatch.setattr("edge_llama.native.sampler.load_chooser", lambda: None)
    theirs = model.generate(prompt, sampling=sampling)
    assert ours.tokens == theirs.tokens
    assert len(ours.tokens) > 5
