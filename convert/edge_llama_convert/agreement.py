"""A short forward pass: llama.cpp's logits against the numpy reference's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .checks import Check, rounded
from .errors import UnsupportedError
from .reference import forward
from .rotation import Rotation, rotation_of
from .vocab.probe import PROBES

if TYPE_CHECKING:
    import numpy.typing as npt

    from .checks import Runtime
    from .params import LlamaParams
    from .reference import Weights

    Array = npt.NDArray[np.float32]

NAME = "forward pass"

#: Tokens of the first probe that are computed.
POSITIONS = 16


def compare_logits(weights: Weights, params: LlamaParams, runtime: Runtime, least: float) -> Check:
    """Compare the two on the first probe; the mean cosine must be ``least``.

    A wrong permutation, rope or shape gives a cosine near 0.
    """
    try:
        rotation = rotation_for(weights, params)
    except UnsupportedError as error:
        return Check(NAME, passed=True, detail=f"not compared: {error}", noteworthy=True)
    tokens = runtime.tokenize(PROBES[0])[: min(POSITIONS, params.context_length)]
    # First llama.cpp: it refuses a model that the reference would stumble over.
    actual = runtime.logits(tokens)
    expected = forward(weights, params, rotation, tokens)
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(actual, axis=1)
    cosines = (expected * actual).sum(axis=1) / norms
    cosine = float(cosines.mean())
    same = int((expected.argmax(axis=1) == actual.argmax(axis=1)).sum())
    divergence = float(np.mean([_divergence(*pair) for pair in zip(expected, actual, strict=True)]))
    return Check(
        NAME,
        passed=cosine >= least,
        detail=f"mean cosine {cosine:.4f} (at least {least} expected), "
        f"same top-1 at {same} of {len(tokens)} positions, KL divergence {divergence:.2g}",
        figures={
            "positions": len(tokens),
            "mean_cosine": rounded(cosine),
            "least_cosine": rounded(float(cosines.min())),
            "same_top_1": same,
            "mean_kl_divergence": rounded(divergence),
        },
    )


def rotation_for(weights: Weights, params: LlamaParams) -> Rotation:
    """Return the model's rotation; config.json's own formula counts, not factors made from it.

    Raises:
        UnsupportedError: a rope type whose formula is not known.
    """
    stated = params.rope_type == "llama3" or not weights.has("rope_freqs.weight")
    return rotation_of(params, None if stated else weights.vector("rope_freqs.weight"))


def _divergence(expected: Array, actual: Array) -> float:
    """Return the Kullback-Leibler divergence of two distributions given as logits, in nats."""
    p, q = _log_softmax(expected), _log_softmax(actual)
    return float(np.maximum(0.0, np.sum(np.exp(p) * (p - q))))  # NaN stays NaN


def _log_softmax(logits: Array) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max()
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result
