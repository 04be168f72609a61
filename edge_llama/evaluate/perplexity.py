"""Perplexity of a text, and how far two models are apart on it.

The text is cut as llama-perplexity cuts it (tools/perplexity/perplexity.cpp): chunks of ``n_ctx``
tokens, one after the other, BOS in place of each chunk's first token if the model wants it, and
scores for the second half only, so that every token has at least half a context before it.
"""

from __future__ import annotations

import dataclasses
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..config import ModelConfig
from ..errors import InvalidOptionError
from .aside import Aside
from .scores import Estimate, PairScores, compare_logits, mean, negative_log_likelihood
from .teacher import Teacher
from .vocabularies import check_same_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from .scores import Values

#: Context that perplexities are usually given for, in tokens; llama-perplexity's default.
DEFAULT_CONTEXT = 512


@dataclass(frozen=True)
class Progress:
    """How far an evaluation is, in chunks, and what it has found so far."""

    done: int
    total: int
    perplexity: float


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """How surprised a model is by a text: e to the power of the mean negative log-likelihood.

    Attributes:
        model: the file.
        perplexity: with its standard error, tokens taken as independent.
        n_ctx: length of a chunk in tokens.
        n_chunks: chunks that were read.
        n_scored: tokens that were scored.
        n_tokens: tokens of the whole text; the rest that fills no chunk is left out.
        seconds: time that reading took, without loading.
        notes: what was chosen against the defaults, and options that do nothing here.
    """

    model: Path
    perplexity: Estimate
    n_ctx: int
    n_chunks: int
    n_scored: int
    n_tokens: int
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """KL(base || this) over the scored positions, in nats per token."""

    mean: Estimate
    median: float
    percentile_99: float
    maximum: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How far a model is from the one it was made of, on one text.

    Attributes:
        this: the model in question.
        base: the one that is taken as the truth.
        ratio: perplexity of this / of base.
        divergence: what is lost by taking this model's probabilities for the base's.
        same_top: share of positions where both find the same token likeliest.
    """

    this: Perplexity
    base: Perplexity
    ratio: Estimate
    divergence: Divergence
    same_top: Estimate


def perplexity(
    model: str | Path,
    text: str,
    config: ModelConfig | None = None,
    *,
    max_chunks: int | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> Perplexity:
    """Return the perplexity of ``text``, which is taken as plain: no control tokens.

    ``config.n_ctx`` is the length of a chunk, by default :data:`DEFAULT_CONTEXT`.
    ``on_progress`` is called after every chunk; what it raises ends the evaluation.

    Raises:
        InvalidOptionError: the text has fewer tokens than a chunk.
        ModelFileError, OutOfMemoryError, DeviceError, NativeLibraryError: as ``Model.open``.
    """
    with Aside() as aside, Teacher(Path(model), _with_context(config), aside) as teacher:
        tokens = teacher.tokenize(text)
        chunks = _cut(tokens, teacher.n_ctx, max_chunks)
        started, found = time.perf_counter(), []
        for number, chunk in enumerate(chunks, 1):
            for position, logits in teacher.read(chunk):
                targets = chunk[position + 1 : position + 1 + len(logits)]
                found.append(negative_log_likelihood(logits, targets))
            _tell(on_progress, number, len(chunks), found)
        seconds = time.perf_counter() - started
        return _summary(teacher, chunks, len(tokens), np.concatenate(found), seconds)


def compare(  # noqa: PLR0913 - what is measured, how, and who is told
    model: str | Path,
    base: str | Path,
    text: str,
    config: ModelConfig | None = None,
    *,
    max_chunks: int | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> Comparison:
    """Let both models read ``text`` side by side; ``base`` is the one taken as the truth.

    Both are in memory at the same time, their weights mapped; the logits of a few positions are
    compared and forgotten.

    Raises:
        InvalidOptionError: the text has fewer tokens than a chunk; the vocabularies differ.
        ModelFileError, OutOfMemoryError, DeviceError, NativeLibraryError: as ``Model.open``.
    """
    config = _with_context(config)
    with ExitStack() as opened:
        aside = opened.enter_context(Aside())
        this = opened.enter_context(Teacher(Path(model), config, aside))
        other = opened.enter_context(Teacher(Path(base), config, aside))
        check_same_vocabulary(this, other)
        tokens = this.tokenize(text)
        chunks = _cut(tokens, this.n_ctx, max_chunks)
        started, found = time.perf_counter(), list[PairScores]()
        for number, chunk in enumerate(chunks, 1):
            for (position, ours), (_, theirs) in zip(
                this.read(chunk), other.read(chunk), strict=True
            ):
                targets = chunk[position + 1 : position + 1 + len(ours)]
                found.append(compare_logits(ours, theirs, targets))
            _tell(on_progress, number, len(chunks), [scores.nll for scores in found])
        seconds = time.perf_counter() - started
        nll, nll_base, divergence, same_top = (
            np.concatenate(part) for part in zip(*found, strict=True)
        )
        return Comparison(
            this=_summary(this, chunks, len(tokens), nll, seconds),
            base=_summary(other, chunks, len(tokens), nll_base, seconds),
            ratio=mean(nll - nll_base).exp(),  # paired: most of the variance is the text's
            divergence=Divergence(
                mean=mean(divergence),
                median=float(np.median(divergence)),
                percentile_99=float(np.percentile(divergence, 99)),
                maximum=float(np.max(divergence)),
            ),
            same_top=mean(same_top.astype(np.float64)),
        )


def _with_context(config: ModelConfig | None) -> ModelConfig:
    config = config or ModelConfig()
    return config if config.n_ctx else dataclasses.replace(config, n_ctx=DEFAULT_CONTEXT)


def _cut(
    tokens: npt.NDArray[np.int64], n_ctx: int, max_chunks: int | None
) -> list[npt.NDArray[np.int64]]:
    count = len(tokens) // n_ctx
    if not count:
        raise InvalidOptionError(
            f"the text has {len(tokens)} tokens, fewer than a context of {n_ctx}",
            hint=f"Use a longer text, or n_ctx (--ctx) of at most {len(tokens)}."
            if len(tokens) >= 16
            else "Use a longer text.",
        )
    count = min(count, max_chunks or count)
    return [tokens[number * n_ctx : (number + 1) * n_ctx] for number in range(count)]


def _tell(
    on_progress: Callable[[Progress], object] | None, done: int, total: int, found: list[Values]
) -> None:
    if on_progress is not None:
        so_far = sum(float(np.sum(part)) for part in found) / sum(len(part) for part in found)
        on_progress(Progress(done, total, float(np.exp(so_far))))


def _summary(
    teacher: Teacher,
    chunks: list[npt.NDArray[np.int64]],
    n_tokens: int,
    nll: Values,
    seconds: float,
) -> Perplexity:
    return Perplexity(
        model=teacher.path,
        perplexity=mean(nll).exp(),
        n_ctx=teacher.n_ctx,
        n_chunks=len(chunks),
        n_scored=len(nll),
        n_tokens=n_tokens,
        seconds=seconds,
        notes=teacher.notes,
    )
