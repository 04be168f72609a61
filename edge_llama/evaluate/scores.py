"""From logits to what a model makes of the tokens that really came: pure arithmetic.

Rows are taken a few at a time, so that nothing as large as the logits is allocated beside them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Logits = npt.NDArray[np.float32]
    Values = npt.NDArray[np.float64]

#: Elements that are worked on at a time: a few rows, which stay in the processor's caches.
_ELEMENTS = 2**18


@dataclass(frozen=True)
class Estimate:
    """A mean, and the standard error of it."""

    value: float
    error: float

    def exp(self) -> Estimate:
        """Return e to the power of it, by first-order error propagation."""
        value = math.exp(self.value)
        return Estimate(value, value * self.error)


class PairScores(NamedTuple):
    """Per position, for two models: float64 and bool ``[positions]``.

    ``nll`` and ``nll_base`` are negative log-likelihoods in nats, ``divergence`` is
    KL(base || this) in nats, ``same_top`` says whether both find the same token likeliest.
    """

    nll: Values
    nll_base: Values
    divergence: Values
    same_top: npt.NDArray[np.bool_]


def negative_log_likelihood(logits: Logits, targets: npt.NDArray[np.int64]) -> Values:
    """Return -log softmax(logits)[target] in nats, float64 ``[positions]``.

    ``logits`` is float32 ``[positions, n_vocab]``.
    """
    result = np.empty(len(targets), dtype=np.float64)
    for rows in _row_blocks(logits):
        block = logits[rows]
        result[rows] = _log_sum_exp(block) - _picked(block, targets[rows])
    return result


def compare_logits(this: Logits, base: Logits, targets: npt.NDArray[np.int64]) -> PairScores:
    """Score the logits of two models at the same positions, float32 ``[positions, n_vocab]``."""
    count = len(targets)
    nll, nll_base = np.empty(count), np.empty(count)
    divergence, same_top = np.empty(count), np.empty(count, dtype=np.bool_)
    for rows in _row_blocks(this):
        one, other = this[rows], base[rows]
        total, total_base = _log_sum_exp(one), _log_sum_exp(other)
        nll[rows] = total - _picked(one, targets[rows])
        nll_base[rows] = total_base - _picked(other, targets[rows])
        # sum over p_base * (log p_base - log p_this); what both have in common leaves the sum.
        weights = np.exp(other - total_base[:, None].astype(np.float32))
        difference = np.sum(weights * (other - one), axis=1, dtype=np.float64)
        mass = np.sum(weights, axis=1, dtype=np.float64)  # 1, but for rounding
        exact = difference / mass - (total_base - total)
        divergence[rows] = np.maximum(exact, 0)  # below 0 is rounding
        same_top[rows] = np.argmax(one, axis=1) == np.argmax(other, axis=1)
    return PairScores(nll, nll_base, divergence, same_top)


def mean(values: Values) -> Estimate:
    """Return the mean of independent values with its standard error, sqrt(variance / (n - 1))."""
    error = math.sqrt(float(np.var(values)) / (len(values) - 1)) if len(values) > 1 else math.nan
    return Estimate(float(np.mean(values)), error)


def _row_blocks(logits: Logits) -> Iterator[slice]:
    step = max(1, _ELEMENTS // logits.shape[1])
    for start in range(0, logits.shape[0], step):
        yield slice(start, min(start + step, logits.shape[0]))


def _log_sum_exp(rows: Logits) -> Values:
    highest = np.max(rows, axis=1)
    total = np.sum(np.exp(rows - highest[:, None]), axis=1, dtype=np.float64)
    result: Values = highest + np.log(total)
    return result


def _picked(rows: Logits, targets: npt.NDArray[np.int64]) -> Logits:
    picked: Logits = np.take_along_axis(rows, targets[:, None], axis=1)[:, 0]
    return picked
