"""Prove that a GGUF is what its checkpoint says, by comparing the two independently.

Three comparisons, none of which uses the code that made the file: every tensor's bytes are
decoded by the ``gguf`` package and held against the original rows; probe texts are tokenised by
the original tokenizer and by llama.cpp's reading of the file; and a numpy forward pass of the
original weights is held against llama.cpp's logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import gguf
import numpy as np

from .errors import VerificationError
from .fileio import SharedFile
from .ggml import GGMLType
from .originals import OriginalWeights
from .reference import ROPE_TYPES, forward
from .rows import RowReader, chunks, open_sources
from .vocab.probe import PROBES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from .pipeline import Plan
    from .quantize import Target

    Array = npt.NDArray[np.float32]


class Level(str, Enum):
    """How much is compared."""

    OFF = "off"
    QUICK = "quick"
    FULL = "full"


class Runtime(Protocol):
    """llama.cpp's reading of the file that is being verified."""

    def tokenize(self, text: str) -> list[int]:
        """Return token ids, control tokens recognised, nothing added around the text."""
        ...

    def logits(self, tokens: Sequence[int]) -> Array:
        """Return ``[len(tokens), n_vocab]``."""
        ...


@dataclass(frozen=True)
class Check:
    """One comparison: what was compared, whether it holds, and the figure.

    ``noteworthy`` marks one that holds, but not entirely.
    """

    name: str
    passed: bool
    detail: str
    noteworthy: bool = False


@dataclass(frozen=True)
class Report:
    """Every comparison that was made."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether all comparisons hold."""
        return all(check.passed for check in self.checks)


#: Root-mean-square error of a type relative to that of the values, for normally distributed
#: weights (measured, 131072 values). Trained weights reach up to twice as much.
_EXPECTED_ERROR = {
    GGMLType.F32: 0.0,
    GGMLType.F16: 0.00021,
    GGMLType.BF16: 0.0017,
    GGMLType.Q8_0: 0.0054,
    GGMLType.Q6_K: 0.018,
    GGMLType.Q5_K: 0.036,
    GGMLType.Q5_1: 0.038,
    GGMLType.Q5_0: 0.043,
    GGMLType.Q4_K: 0.071,
    GGMLType.IQ4_NL: 0.076,
    GGMLType.IQ4_XS: 0.077,
    GGMLType.Q4_1: 0.078,
    GGMLType.Q4_0: 0.086,
    GGMLType.Q3_K: 0.15,
    GGMLType.Q2_K: 0.30,
}
_TOLERANCE = 3.0

#: Least cosine between llama.cpp's logits and the reference's, by the error of the widest type.
#: A wrong permutation, rope or shape gives values near 0; quantisation alone stays above these.
_LEAST_COSINE = ((0.0, 0.999), (0.002, 0.99), (0.02, 0.9), (0.1, 0.8), (1.0, 0.5))

#: Rows per tensor that the quick level compares.
_QUICK_ROWS = 8

_HINT = "Please report it with the model's name; meanwhile --verify off writes the file unchecked."


def verify(plan: Plan, path: Path, level: Level, runtime: Runtime | None = None) -> Report:
    """Compare the GGUF at ``path`` with the checkpoint that ``plan`` was made from.

    ``quick`` compares some rows of every tensor, and the tokenizer; ``full`` compares all rows
    and adds the forward pass. Without ``runtime`` only the tensors are compared.

    Raises:
        VerificationError: from :func:`require` only; here failures are part of the report.
        SourceError: a file ended early.
    """
    if level is Level.OFF:
        return Report(())
    checks = [_check_tensors(plan, path, everything=level is Level.FULL)]
    if runtime is not None:
        checks.append(_check_tokens(plan, runtime))
        if level is Level.FULL:
            checks.append(_check_logits(plan, runtime))
    return Report(tuple(checks))


def require(report: Report, path: Path) -> None:
    """Raise VerificationError unless every comparison holds."""
    failed = [f"{check.name}: {check.detail}" for check in report.checks if not check.passed]
    if failed:
        raise VerificationError(f"{path}: {'; '.join(failed)}", hint=_HINT)


def _check_tensors(plan: Plan, path: Path, *, everything: bool) -> Check:
    targets = plan.layout.targets
    worst, worst_name, compared = 0.0, "", 0
    faults: list[str] = []
    with (
        open_sources(target.tensor for target in targets) as files,
        SharedFile(path) as written,
    ):
        reader = RowReader(files)
        for target in targets:
            squares = errors = 0.0
            for original, back in _rows(target, reader, written, everything=everything):
                squares += float(np.square(original, dtype=np.float64).sum())
                errors += float(np.square(back - original, dtype=np.float64).sum())
                compared += original.size
            relative = float(np.sqrt(errors / squares)) if squares else float(np.sqrt(errors))
            allowed = _TOLERANCE * _EXPECTED_ERROR[target.kind]
            if not relative <= allowed:
                faults.append(
                    f"{target.tensor.name} ({target.kind.name}) is off by {relative:.2%}, "
                    f"at most {allowed:.2%} is expected"
                )
            if relative > worst:
                worst, worst_name = relative, f"{target.tensor.name}, {target.kind.name}"
    if faults:
        return Check("weights", passed=False, detail="; ".join(faults[:4]))
    detail = f"{len(targets)} tensors, {compared / 1e6:,.1f}M values, largest error "
    return Check("weights", passed=True, detail=f"{detail}{worst:.2%} ({worst_name})")


def _rows(
    target: Target, reader: RowReader, written: SharedFile, *, everything: bool
) -> Iterator[tuple[Array, Array]]:
    """Yield original and decoded rows, ``[rows, n_per_row]`` each."""
    tensor = target.tensor
    row_bytes = target.kind.row_bytes(tensor.n_per_row)
    pieces = list(chunks(tensor))
    if not everything:  # the first and the last chunk: headers, offsets and ends would show
        pieces = pieces[:1] + pieces[1:][-1:]
    for first, count in pieces:
        take = count if everything or tensor.n_per_row == 1 else min(count, _QUICK_ROWS)
        together = tensor.rows_together
        needed = -(-take // together) * together
        raw, dtype = reader.read(tensor, first, needed)
        original = reader.to_float32(raw, dtype).reshape(needed, tensor.n_per_row)
        packed = np.empty((take, row_bytes), dtype=np.uint8)
        written.read_into(packed.reshape(-1).data, target.offset + first * row_bytes)
        yield original[:take], decode(packed, target.kind).reshape(take, tensor.n_per_row)


def decode(packed: npt.NDArray[np.uint8], kind: GGMLType) -> Array:
    """Decode rows of bytes with the ``gguf`` package, independent of ggml."""
    if kind is GGMLType.F32:
        return packed.view(np.float32)
    if kind is GGMLType.F16:
        return packed.view(np.float16).astype(np.float32)
    values: Array = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType(int(kind)))
    return values


def _check_tokens(plan: Plan, runtime: Runtime) -> Check:
    if not plan.probes:
        detail = "taken over from the source as it is"
        return Check("tokenizer", passed=True, detail=detail)
    pairs = zip(PROBES, plan.probes, strict=True)
    different = [text for text, original in pairs if runtime.tokenize(text) != list(original)]
    if different:
        # One text may differ: llama.cpp's splittings treat a few rare characters their own way.
        detail = f"{len(different)} of {len(PROBES)} texts differ, e.g. {different[0][:40]!r}"
        return Check("tokenizer", len(different) <= 1, detail, noteworthy=True)
    return Check("tokenizer", passed=True, detail=f"{len(PROBES)} texts give the same tokens")


def _check_logits(plan: Plan, runtime: Runtime) -> Check:
    params = plan.params
    if params.rope_type not in ROPE_TYPES:
        detail = f"not compared: no reference for rope type {params.rope_type}"
        return Check("forward pass", passed=True, detail=detail)
    tokens = runtime.tokenize(PROBES[0])[:16]
    with open_sources(target.tensor for target in plan.layout.targets) as files:
        weights = OriginalWeights([target.tensor for target in plan.layout.targets], files)
        expected = forward(weights, params, tokens)
    actual = runtime.logits(tokens)
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(actual, axis=1)
    cosine = float(((expected * actual).sum(axis=1) / norms).mean())
    same = int((expected.argmax(axis=1) == actual.argmax(axis=1)).sum())
    error = max(_EXPECTED_ERROR[target.kind] for target in plan.layout.targets)
    least = next(cosine for bound, cosine in _LEAST_COSINE if error <= bound)
    return Check(
        "forward pass",
        passed=cosine >= least,
        detail=f"mean cosine {cosine:.4f} (at least {least} expected), "
        f"same top-1 at {same} of {len(tokens)} positions",
    )
