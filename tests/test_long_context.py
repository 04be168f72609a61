"""Positions beyond the training length, experts and windows: our runtime against transformers.

Small random checkpoints are converted, run, and compared with transformers' formulas in
``hfmodel``. Their attention is so sharp that wrong positions change log probabilities by 10 and
more; an f16 cache changes them by some hundredths.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import builders
import families
import hfmodel
import numpy as np
import pytest
import spm

from edge_llama import InvalidOptionError, Model, ModelConfig, Sampling
from edge_llama_convert import convert, plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from conftest import RunCLI

    Weights = dict[str, npt.NDArray[np.float32]]

#: What the checkpoints were trained on, and the length of the text, in tokens.
TRAINED, LENGTH = 64, 200

PLAIN = {"rope_type": "default", "rope_theta": 1e4}
ORIGINAL = {"original_max_position_embeddings": TRAINED}
LINEAR = {**PLAIN, "rope_type": "linear", "factor": 4.0}
DYNAMIC = {**PLAIN, "rope_type": "dynamic", "factor": 4.0}
YARN = {**PLAIN, **ORIGINAL, "rope_type": "yarn", "factor": 4.0}
LLAMA3 = {
    **PLAIN,
    **ORIGINAL,
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
MIXTRAL = {
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "head_dim": None,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "sliding_window": None,
}
MISTRAL = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "max_position_embeddings": 256,
    "sliding_window": TRAINED,
}

TOKENS = [int(token) for token in np.random.default_rng(1).integers(3, families.N_PIECES, LENGTH)]


def config_of(rope: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        **builders.CONFIG,
        **builders.TINY_SHAPE,
        "vocab_size": families.N_PIECES,
        "max_position_embeddings": TRAINED,
        "rope_parameters": dict(rope),
        **changes,
    }


def weights_of(config: Mapping[str, Any]) -> Weights:
    """Random weights with which a token attends to few others, by their position."""
    weights = builders.tiny_tensors(config, seed=3)
    for name, values in weights.items():
        is_norm, is_sharp = "norm" in name, "q_proj" in name or "k_proj" in name
        scale = 1 if is_norm else 6 if is_sharp else 10 if "embed" in name else 3
        weights[name] = values * np.float32(scale) + np.float32(is_norm)
    return weights


def converted(folder: Path, config: Mapping[str, Any], weights: Weights) -> Path:
    """The checkpoint as a GGUF in F32."""
    source = folder / "checkpoint"
    source.mkdir()
    tensors = {name: ("F32", values) for name, values in sorted(weights.items())}
    builders.write_safetensors(source / "model.safetensors", tensors)
    builders.write_json(source / "config.json", config)
    shutil.copy(families.TOKENIZER, source / "tokenizer.model")
    builders.write_json(source / "tokenizer_config.json", spm.TOKENIZER_CONFIG)
    convert(plan(source, recipe="f32"), folder / "model.gguf")
    return folder / "model.gguf"


#: What transformers 5.23 computed (LlamaForCausalLM and the others, in float64, Mixtral in float32)
#: after the last of TOKENS: the likeliest tokens and their log probabilities.
KNOWN = {
    "plain": (config_of(PLAIN), {150: -0.5048, 331: -1.8310, 144: -3.1980}),
    "linear": (config_of(LINEAR), {303: -0.1981, 142: -2.6859, 243: -3.4108}),
    "dynamic": (config_of(DYNAMIC), {211: -0.4233, 416: -2.8340, 120: -2.9800}),
    "yarn": (
        config_of(YARN, max_position_embeddings=4 * TRAINED),
        {311: -2.0482, 365: -2.1240, 229: -2.1375},
    ),
    "llama3": (
        config_of(LLAMA3, max_position_embeddings=8 * TRAINED),
        {148: -0.9578, 403: -1.8783, 333: -2.4943},
    ),
    "mixtral": (config_of(PLAIN, **MIXTRAL), {205: -0.2522, 47: -3.5504, 214: -4.0932}),
    "mistral": (config_of(PLAIN, **MISTRAL), {286: -0.7470, 102: -1.7673, 367: -2.5033}),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_reference_is_transformers(name: str) -> None:
    config, known = KNOWN[name]
    window = config.get("sliding_window")
    found = hfmodel.logprobs(weights_of(config), config, TOKENS, window=window)[-1]
    best = np.argsort(-found)[: len(known)]
    assert {int(token): found[token] for token in best} == pytest.approx(known, abs=2e-4)


def next_logprobs(path: Path, tokens: Sequence[int], **options: Any) -> dict[int, float]:
    """The likeliest tokens after ``tokens``, as the runtime sees them."""
    with Model.open(path, threads=2, **options) as model:
        sampling = Sampling(temperature=0, max_tokens=1, logprobs=10)
        (chosen,) = model.generate(tokens, sampling=sampling).logprobs
    return {one.token: one.logprob for one in chosen.top}


def off_by(found: Mapping[int, float], expected: npt.NDArray[np.float64]) -> float:
    return max(abs(logprob - float(expected[token])) for token, logprob in found.items())


@pytest.mark.parametrize("name", ["linear", "dynamic", "yarn", "llama3"])
def test_positions_are_right_beyond_the_training_length(name: str, tmp_path: Path) -> None:
    config = KNOWN[name][0]
    weights = weights_of(config)
    path = converted(tmp_path, config, weights)
    # llama.cpp has no dynamic rule; by option it is that of a text as long as the context.
    options = {"rope_scaling": "dynamic", "rope_factor": 4.0} if name == "dynamic" else {}
    found = next_logprobs(path, TOKENS[:-1], n_ctx=LENGTH, **options)
    assert off_by(found, hfmodel.logprobs(weights, config, TOKENS)[-2]) < 0.15
    plain = hfmodel.logprobs(weights, {**config, "rope_parameters": PLAIN}, TOKENS)[-2]
    assert off_by(found, plain) > 2


@pytest.mark.parametrize(
    ("rope", "options"),
    [
        (LINEAR, {"rope_scaling": "linear", "rope_factor": 4.0}),
        (LINEAR, {"rope_factor": 4.0}),
        (YARN, {"rope_scaling": "yarn", "rope_factor": 4.0}),
        (
            {**YARN, "original_max_position_embeddings": 32, "factor": 8.3},
            {"rope_scaling": "yarn", "rope_factor": 8.3, "yarn_orig_ctx": 32},
        ),
        ({**PLAIN, "rope_theta": 1e6}, {"rope_freq_base": 1e6}),
    ],
)
def test_an_option_does_what_the_file_would(
    rope: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    weights = weights_of(config_of(PLAIN))
    (tmp_path / "plain").mkdir()
    (tmp_path / "scaled").mkdir()
    plain = converted(tmp_path / "plain", config_of(PLAIN), weights)
    scaled = converted(tmp_path / "scaled", config_of(rope), weights)
    found = next_logprobs(plain, TOKENS[:-1], n_ctx=LENGTH, **options)
    assert found == next_logprobs(scaled, TOKENS[:-1], n_ctx=LENGTH)
    assert found != next_logprobs(plain, TOKENS[:-1], n_ctx=LENGTH)


def test_other_betas_of_yarn(tmp_path: Path) -> None:
    config = config_of(PLAIN)
    weights = weights_of(config)
    path = converted(tmp_path, config, weights)
    found = next_logprobs(
        path,
        TOKENS[:-1],
        n_ctx=LENGTH,
        rope_scaling="yarn",
        rope_factor=4.0,
        yarn_beta_fast=8.0,
        yarn_beta_slow=0.5,
    )
    rope = {**YARN, "beta_fast": 8, "beta_slow": 0.5}
    expected = hfmodel.logprobs(weights, config_of(rope), TOKENS)[-2]
    assert off_by(found, expected) < 0.15


@pytest.mark.parametrize("rope", [LINEAR, YARN])
def test_dropped_tokens_leave_the_positions_right(rope: dict[str, Any], tmp_path: Path) -> None:
    """In one layer keys do not depend on what is dropped, so the rest must be as if read alone."""
    config = config_of(rope, num_hidden_layers=1, max_position_embeddings=256)
    weights = weights_of(config)
    path = converted(tmp_path, config, weights)
    with Model.open(path, n_ctx=96, threads=2, overflow="shift") as model:
        sampling = Sampling(temperature=0, max_tokens=60, logprobs=10, logit_bias={2: -np.inf})
        reply = model.generate(TOKENS[:80], sampling=sampling)
    assert reply.dropped_tokens
    text = [*TOKENS[:80], *reply.tokens][reply.dropped_tokens : -1]
    found = {one.token: one.logprob for one in reply.logprobs[-1].top}
    assert off_by(found, hfmodel.logprobs(weights, config, text)[-1]) < 0.15


def notes(path: Path, **options: Any) -> str:
    with Model.open(path, **options) as model:
        return "\n".join(model.plan.notes)


def test_the_plan_reaches_as_far_as_positions_are_stretched(tmp_path: Path) -> None:
    config = config_of(PLAIN)
    path = converted(tmp_path, config, weights_of(config))
    for options, n_ctx in (
        ({}, TRAINED),
        ({"rope_factor": 4.0}, 4 * TRAINED),
        ({"rope_scaling": "yarn", "rope_factor": 4.0}, 4 * TRAINED),
        ({"rope_scaling": "yarn", "rope_factor": 4.0, "yarn_orig_ctx": 32}, 2 * TRAINED),
        ({"rope_freq_base": 1e6}, TRAINED),
    ):
        with Model.open(path, **options) as model:
            assert (model.n_ctx, model.plan.notes) == (n_ctx, ())
        with Model.open(path, memory="1GiB", **options) as model:
            assert model.n_ctx <= n_ctx
    assert "beyond the 64 tokens the model was trained on" in notes(path, n_ctx=128)
    assert "beyond the 128 tokens the model is str" in notes(path, n_ctx=129, rope_factor=2.0)
    assert notes(path, n_ctx=128, rope_freq_base=1e6) == ""


def test_options_that_do_nothing_say_so(tmp_path: Path) -> None:
    config = config_of(LLAMA3, max_position_embeddings=8 * TRAINED)
    path = converted(tmp_path, config, weights_of(config))
    for options, note in (
        ({"yarn_beta_fast": 8.0}, "yarn_beta_fast does nothing: the rope scaling is linear"),
        ({"rope_scaling": "yarn"}, "rope_scaling=yarn does nothing without a rope_factor"),
        (
            {"rope_scaling": "dynamic", "rope_factor": 2.0, "n_ctx": 256},
            "rope_scaling=dynamic does nothing within the 512 tokens the model was trained on",
        ),
        ({"rope_factor": 2.0}, "on top of the scaling in the file's tensor rope_freqs.weight"),
        ({"rope_scaling": "none", "rope_factor": 2.0}, "rope_factor does nothing"),
        ({"rope_scaling": "none"}, "leaves the scaling that is in the file's tensor rope_freqs"),
    ):
        assert note in notes(path, **options)


def test_what_only_a_file_can_have_is_refused(run_cli: RunCLI) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        ModelConfig(rope_scaling="llama3")  # type: ignore[arg-type]
    assert "edge-llama convert" in caught.value.hint
    result = run_cli("generate", "x", "--rope-scaling", "llama3")
    assert result.returncode != 0
    assert "rope_scaling = 'llama3' is not possible" in result.stderr


def test_a_state_of_other_positions_is_not_taken(tmp_path: Path) -> None:
    config = config_of(PLAIN)
    path = converted(tmp_path, config, weights_of(config))
    prompt = [*TOKENS, *TOKENS]  # long enough to be worth keeping

    def cached(**options: Any) -> int:
        states = str(tmp_path / "states")
        with Model.open(path, n_ctx=512, state_dir=states, **options) as model:
            return model.generate(prompt, sampling=Sampling(max_tokens=1)).cached_tokens

    assert cached() == 0
    assert cached() == len(prompt) - 1
    for options in (
        {"rope_factor": 4.0},
        {"rope_scaling": "yarn", "rope_factor": 4.0},
        {"rope_scaling": "dynamic", "rope_factor": 4.0},
        {"rope_freq_base": 2e4},
    ):
        assert cached(**options) == 0


@pytest.mark.parametrize("name", ["mixtral", "mistral"])
def test_experts_and_windows_run(name: str, tmp_path: Path) -> None:
    config = KNOWN[name][0]
    weights = weights_of(config)
    text = TOKENS[3:43]  # no token's experts are so close that rounding chooses
    with Model.open(converted(tmp_path, config, weights), threads=2) as model:
        sampling = Sampling(temperature=0, max_tokens=16, logit_bias={2: -np.inf})
        reply = model.generate(text, sampling=sampling)
        assert model.n_ctx == TRAINED  # within which a window changes nothing
    for token in reply.tokens:
        expected = hfmodel.logprobs(weights, config, text, window=config["sliding_window"])[-1]
        expected[2] = -np.inf
        assert expected[token] > expected.max() - 0.1
        text = [*text, token]


def test_a_context_wider_than_the_window_is_noted(tmp_path: Path) -> None:
    config = KNOWN["mistral"][0]
    weights = weights_of(config)
    path = converted(tmp_path, config, weights)
    assert "sliding window of 64 tokens" in notes(path, n_ctx=LENGTH)
    found = next_logprobs(path, TOKENS[:-1], n_ctx=LENGTH)  # llama.cpp heeds no window
    assert off_by(found, hfmodel.logprobs(weights, config, TOKENS)[-2]) < 0.15
    assert off_by(found, hfmodel.logprobs(weights, config, TOKENS, window=TRAINED)[-2]) > 2
