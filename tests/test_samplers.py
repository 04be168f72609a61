"""The native samplers against their formulas: candidates in, what is left of them out."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from edge_llama import InvalidOptionError, ModelConfig, Sampling, StateError
from edge_llama.logprobs import token_logprob
from edge_llama.native import NativeModel, NativeSampler
from edge_llama.native.library import llama

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

pytestmark = pytest.mark.model

LOGITS = np.random.default_rng(5).normal(0, 3, 2000)
#: The example of llama.cpp's own tests.
TENTHS = np.log([0.1, 0.2, 0.3, 0.4])


@pytest.fixture(scope="module")
def vocabulary(embedded: Path) -> Iterator[NativeModel]:
    model = NativeModel(embedded, ModelConfig(), vocab_only=True)
    yield model
    model.close()


def apply(sampler: NativeSampler, logits: Floats) -> tuple[int, Floats]:
    """Return the token that was chosen and every token's probability at that moment."""
    lib = llama()
    data = (lib.llama_token_data * len(logits))(*((i, x, 0) for i, x in enumerate(logits)))
    array = lib.llama_token_data_array(data=data, size=len(logits), selected=-1, sorted=False)
    lib.llama_sampler_apply(sampler.handle, ctypes.byref(array))
    left = np.zeros(len(logits))
    for candidate in array.data[: array.size]:
        left[candidate.id] = candidate.p
    return array.data[array.selected].id, left


def make(model: NativeModel, **options: Any) -> NativeSampler:
    return NativeSampler(model, Sampling(**{"seed": 1, **options}))


def probabilities(
    model: NativeModel, logits: Floats, after: Sequence[int] = (), /, **options: Any
) -> Floats:
    with make(model, **options) as sampler:
        sampler.accept(after)
        return apply(sampler, logits)[1]


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max())
    total: Floats = powers / powers.sum()
    return total


def only(kept: npt.NDArray[Any], logits: Floats = LOGITS) -> Floats:
    """Return the probabilities when nothing but ``kept`` (indices or a mask) is left."""
    masked = np.full(len(logits), -np.inf)
    masked[kept] = logits[kept]
    return softmax(masked)


def test_the_chain_is_llama_cpp_s(vocabulary: NativeModel) -> None:
    lib = llama()
    everything = Sampling(
        logit_bias={5: 1.0},
        repeat_penalty=1.1,
        dry_multiplier=1.0,
        typical_p=0.9,
        top_n_sigma=1.0,
        xtc_probability=0.5,
        dynatemp_range=0.1,
    )
    with NativeSampler(vocabulary, everything) as sampler:
        names = [
            lib.llama_sampler_name(lib.llama_sampler_chain_get(sampler.handle, i)).decode()
            for i in range(lib.llama_sampler_chain_n(sampler.handle))
        ]
    assert names == [  # as llama-completion prints it with the same settings
        *("logit-bias", "penalties", "dry", "top-n-sigma", "top-k", "typical", "top-p", "min-p"),
        *("xtc", "temp-ext", "dist"),
    ]


def test_known_values(vocabulary: NativeModel) -> None:
    """The cases of llama.cpp's tests/test-sampling.cpp."""
    for options, expected in (
        ({"samplers": ("top_k",), "top_k": 3}, [0, 2 / 9, 3 / 9, 4 / 9]),
        ({"samplers": ("top_p",), "top_p": 0.7}, [0, 0, 3 / 7, 4 / 7]),
        ({"samplers": ("min_p",), "min_p": 0.49}, [0, 2 / 9, 3 / 9, 4 / 9]),
        ({"samplers": ("min_p",), "min_p": 0.51}, [0, 0, 3 / 7, 4 / 7]),
        ({"samplers": ("top_n_sigma",), "top_n_sigma": 1.0}, [0, 0, 3 / 7, 4 / 7]),
        (
            {"samplers": ("xtc",), "xtc_probability": 1.0, "xtc_threshold": 0.19},
            [1 / 3, 2 / 3, 0, 0],
        ),
        ({"samplers": ("temperature",), "temperature": 0.0}, [0, 0, 0, 1]),
        ({"samplers": ()}, [0.1, 0.2, 0.3, 0.4]),
    ):
        left = probabilities(vocabulary, TENTHS, **options)
        np.testing.assert_allclose(left, expected, atol=1e-6, err_msg=str(options))


def test_filters(vocabulary: NativeModel) -> None:
    p = softmax(LOGITS)
    order = np.argsort(-LOGITS)
    surprise = np.abs(-np.log(p) + (p * np.log(p)).sum())
    typical = np.argsort(surprise)
    for options, kept in (
        ({"samplers": ("top_k",), "top_k": 17}, order[:17]),
        ({"samplers": ("top_p",), "top_p": 0.8}, order[: (p[order].cumsum() < 0.8).sum() + 1]),
        ({"samplers": ("min_p",), "min_p": 0.02}, p >= 0.02 * p.max()),
        (
            {"samplers": ("typ_p",), "typical_p": 0.6},
            typical[: (p[typical].cumsum() <= 0.6).sum() + 1],
        ),
        (
            {"samplers": ("top_n_sigma",), "top_n_sigma": 1.2},
            LOGITS.max() - LOGITS <= 1.2 * LOGITS.std(),
        ),
    ):
        left = probabilities(vocabulary, LOGITS, **options)
        expected = only(kept)
        assert 1 < (expected > 0).sum() < len(LOGITS)
        np.testing.assert_allclose(left, expected, rtol=2e-4, err_msg=str(options))


def test_temperature(vocabulary: NativeModel) -> None:
    still: dict[str, Any] = {"samplers": ("temperature",), "temperature": 1.7}
    left = probabilities(vocabulary, LOGITS, **still)
    np.testing.assert_allclose(left, softmax(LOGITS / 1.7), rtol=1e-4)
    p = softmax(LOGITS)
    relative = -(p * np.log(p)).sum() / np.log(len(p))
    dynamic = 0.7 + 2 * 1.0 * relative**0.6
    assert 1 < dynamic < 2.5
    left = probabilities(vocabulary, LOGITS, dynatemp_range=1.0, dynatemp_exponent=0.6, **still)
    np.testing.assert_allclose(left, softmax(LOGITS / dynamic), rtol=1e-4)


def test_penalties_see_the_last_tokens_only(vocabulary: NativeModel) -> None:
    past = [9, 9, 9, 3, 1, 3]
    changed = LOGITS.copy()
    for token, count in ((9, 1), (3, 2), (1, 1)):  # the window holds four
        changed[token] *= 1.5 if changed[token] <= 0 else 1 / 1.5
        changed[token] -= 0.4 * count + 0.25
    left = probabilities(
        vocabulary,
        LOGITS,
        past,
        samplers=("penalties",),
        penalty_last_n=4,
        repeat_penalty=1.5,
        frequency_penalty=0.4,
        presence_penalty=0.25,
    )
    assert {bool(LOGITS[token] > 0) for token in (3, 1, 9)} == {True, False}
    np.testing.assert_allclose(left, softmax(changed), rtol=1e-4)


def test_dry_grows_with_the_repetition_and_stops_at_breakers(vocabulary: NativeModel) -> None:
    (breaker,) = vocabulary.tokenize("\n", add_special=False, parse_special=False)
    dry: dict[str, Any] = {
        "samplers": ("dry",),
        "dry_multiplier": 0.5,
        "dry_base": 2.0,
        "dry_allowed_length": 2,
    }
    # 101 102 103 was followed by 104, so 104 would make the repetition longer still; 103 by 7.
    past = [101, 102, 103, 104, 60, 103, 7, 61, 101, 102, 103]
    changed = LOGITS.copy()
    changed[104] -= 0.5 * 2.0 ** (3 - 2)
    np.testing.assert_allclose(
        probabilities(vocabulary, LOGITS, past, **dry), softmax(changed), rtol=1e-4
    )
    changed[104] += 0.5  # a breaker between 101 and 102 leaves a repetition of two
    past = [101, breaker, 102, 103, 104, 60, 103, 7, 61, 101, breaker, 102, 103]
    np.testing.assert_allclose(
        probabilities(vocabulary, LOGITS, past, **dry), softmax(changed), rtol=1e-4
    )
    longer = {**dry, "dry_sequence_breakers": ()}  # without breakers it counts as one of four
    changed[104] -= 0.5 * 2.0 ** (4 - 2) - 0.5
    np.testing.assert_allclose(
        probabilities(vocabulary, LOGITS, past, **longer), softmax(changed), rtol=1e-4
    )


def test_logit_bias_by_id_and_text(vocabulary: NativeModel) -> None:
    (the,) = vocabulary.tokenize(" the", add_special=False, parse_special=False)
    changed = LOGITS.copy()
    changed[7] += 2.5
    changed[the] += 1.0
    changed[11] = -np.inf
    left = probabilities(
        vocabulary, LOGITS, samplers=(), logit_bias={7: 2.5, " the": 1.0, 11: float("-inf")}
    )
    assert left[11] == 0
    np.testing.assert_allclose(left, softmax(changed), rtol=1e-4)


def test_impossible_biases_are_errors(vocabulary: NativeModel) -> None:
    with pytest.raises(InvalidOptionError, match="token 49152 is not in the vocabulary"):
        make(vocabulary, logit_bias={49152: 1.0})
    with pytest.raises(InvalidOptionError, match="every token"):
        make(vocabulary, logit_bias=dict.fromkeys(range(vocabulary.n_vocab), -np.inf))


def test_what_the_model_suppresses_is_never_chosen(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", "x"])
    writer.add_token_scores([0.0] * 4)
    writer.add_token_types([2, 3, 3, 1])
    writer.add_array("tokenizer.ggml.suppress_tokens", [3])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    model = NativeModel(path, ModelConfig(), vocab_only=True)
    try:
        cases: list[dict[str, Any]] = [
            {},
            {"logit_bias": {3: 50.0}},
            {"temperature": 0},
            {"mirostat": 2},
        ]
        for options in cases:
            with make(model, **options) as sampler:
                assert apply(sampler, TENTHS)[0] != 3
    finally:
        model.close()


def test_control_tokens_can_be_forbidden_by_name(vocabulary: NativeModel) -> None:
    end = vocabulary.eos
    assert end is not None
    assert end < len(LOGITS)
    left = probabilities(
        vocabulary, LOGITS, logit_bias={vocabulary.text(end): -np.inf}, samplers=()
    )
    assert left[end] == 0
    assert (left > 0).sum() == len(LOGITS) - 1


def test_the_seed_is_the_mersenne_twister_s(vocabulary: NativeModel) -> None:
    """std::mt19937 is numpy's legacy seeding; two of its words make a double."""
    generator = np.random.RandomState(1234)._bit_generator
    cumulated = softmax(LOGITS).cumsum()
    with make(vocabulary, samplers=(), seed=1234) as sampler:
        for _ in range(50):
            low, high = (int(word) for word in generator.random_raw(2))
            expected = np.searchsorted(cumulated, (low + high * 2**32) / 2**64)
            assert apply(sampler, LOGITS)[0] == expected


def test_xtc_follows_its_probability(vocabulary: NativeModel) -> None:
    generator = np.random.RandomState(9)._bit_generator
    outcomes = []
    with make(
        vocabulary, samplers=("xtc",), xtc_probability=0.4, xtc_threshold=0.15, seed=9
    ) as sampler:
        for _ in range(40):
            happens = int(generator.random_raw()) / 2**32 <= 0.4
            left = apply(sampler, TENTHS)[1]
            expected = [1 / 3, 2 / 3, 0, 0] if happens else [0.1, 0.2, 0.3, 0.4]
            np.testing.assert_allclose(left, expected, atol=1e-6)
            outcomes.append(happens)
    assert 8 <= sum(outcomes) <= 24


def test_mirostat_2_steers_the_surprise(vocabulary: NativeModel) -> None:
    bits = -np.log2(softmax(LOGITS))
    tau, eta, limit = 4.0, 0.5, 8.0
    sizes = set()
    with make(
        vocabulary, mirostat=2, mirostat_tau=tau, mirostat_eta=eta, temperature=1.0
    ) as sampler:
        for _ in range(12):
            token, left = apply(sampler, LOGITS)
            expected = only(bits <= limit)
            np.testing.assert_allclose(left, expected, rtol=1e-4)
            limit -= eta * (-np.log2(expected[token]) - tau)
            sizes.add(int((left > 0).sum()))
    assert len(sizes) > 3


def test_mirostat_1_chooses_its_own_k(vocabulary: NativeModel) -> None:
    ranked = np.sort(softmax(LOGITS))[::-1][:100]
    t = np.log(np.arange(2, 101) / np.arange(1, 100))
    s = (t * np.log(ranked[:-1] / ranked[1:])).sum() / (t * t).sum()
    tau, eta, mu = 6.0, 0.2, 12.0
    counts = []
    with make(
        vocabulary, mirostat=1, mirostat_tau=tau, mirostat_eta=eta, temperature=1.0
    ) as sampler:
        for _ in range(6):
            k = ((s - 1) * 2**mu / (1 - vocabulary.n_vocab ** -(s - 1))) ** (1 / s)
            token, left = apply(sampler, LOGITS)
            expected = only(np.argsort(-LOGITS)[: max(int(k), 1)])
            np.testing.assert_allclose(left, expected, rtol=1e-4)
            mu -= eta * (-np.log2(expected[token]) - tau)
            counts.append(int(k))
    assert len(set(counts)) > 1
    assert min(counts) > 1


def test_greedy_takes_the_likeliest_unless_told_otherwise(vocabulary: NativeModel) -> None:
    best, second = (int(token) for token in np.argsort(-LOGITS)[:2])
    with make(vocabulary, temperature=0) as sampler:
        assert apply(sampler, LOGITS)[0] == best
    with make(vocabulary, temperature=0, repeat_penalty=10.0) as sampler:
        sampler.accept([best])
        assert apply(sampler, LOGITS)[0] == second
    # XTC drops the likeliest at temperature 0 too, as in llama.cpp.
    with make(vocabulary, temperature=0, xtc_probability=1.0) as sampler:
        assert apply(sampler, TENTHS)[0] == 0


def test_clone_and_reset(vocabulary: NativeModel) -> None:
    def draw(sampler: NativeSampler) -> list[int]:
        return [apply(sampler, LOGITS)[0] for _ in range(10)]

    options: dict[str, Any] = {"samplers": ("penalties",), "frequency_penalty": 50.0}
    best = int(LOGITS.argmax())
    with make(vocabulary, **options) as sampler:
        first = draw(sampler)
        sampler.accept([best])
        twin = sampler.clone()
        assert draw(sampler) == draw(twin)
        sampler.reset()
        assert apply(twin, LOGITS)[1][best] < 1e-6 < apply(sampler, LOGITS)[1][best]
        sampler.reset()
        assert draw(sampler) == first
    assert len(draw(twin)) == 10  # what it owns outlives the original
    twin.close()
    twin.close()
    with pytest.raises(StateError, match="closed"):
        draw(twin)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/statm")
def test_samplers_free_what_they_allocate(vocabulary: NativeModel) -> None:
    def resident() -> int:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * 4096

    def use() -> None:
        with make(
            vocabulary,
            repeat_penalty=1.1,
            penalty_last_n=65536,
            dry_multiplier=1.0,
            dry_penalty_last_n=65536,
            dry_sequence_breakers=(),
        ) as sampler:
            sampler.accept([1, 2, 3])
            sampler.clone().close()
        with pytest.raises(InvalidOptionError):
            make(vocabulary, logit_bias={10**6: 1.0}, penalty_last_n=65536, repeat_penalty=2.0)

    use()
    before = resident()
    for _ in range(300):  # 1.5 MiB each
        use()
    assert resident() - before < 50 * 2**20


def test_logprobs_of_known_probabilities() -> None:
    def spelling(token: int) -> bytes:
        return bytes([97 + token])

    entry = token_logprob((TENTHS + 40).astype(np.float32), 1, 3, spelling)
    assert (entry.token, entry.text) == (1, "b")
    assert [one.text for one in entry.top] == ["d", "c", "b"]
    assert [one.logprob for one in (entry, *entry.top)] == pytest.approx(
        np.log([0.2, 0.4, 0.3, 0.2]), abs=1e-5
    )
    assert len(token_logprob(TENTHS.astype(np.float32), 0, 100, spelling).top) == 4
    assert token_logprob(TENTHS.astype(np.float32), 0, 0, spelling).top == ()
