"""Prove that a GGUF is what its checkpoint says, by comparing the two independently.

None of the comparisons uses the code that made the file: every tensor's bytes are decoded by the
``gguf`` package and held against the original rows; probe texts are tokenised by the original
tokenizer and by llama.cpp's reading of the file; a numpy forward pass of the original weights is
held against llama.cpp's logits; and what the file's keys mean to llama.cpp against config.json.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import gguf
import numpy as np

from .agreement import compare_logits
from .checks import Check, Level, Report, rounded
from .ggml import GGMLType
from .hyperparams import compare_hyper_parameters
from .rows import RowReader, chunks, open_sources
from .split import open_parts
from .vocab.probe import PROBES
from .weights import open_weights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from .checks import Runtime
    from .fileio import SharedFile
    from .plans import Plan
    from .quantize import Target

    Array = npt.NDArray[np.float32]

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


def verify(
    plan: Plan,
    path: Path,
    level: Level,
    runtime: Runtime | None = None,
    *,
    tokens: Check | None = None,
) -> Report:
    """Compare the GGUF at ``path`` with the checkpoint that ``plan`` was made from.

    ``quick`` compares some rows of every tensor, and the tokenizer; ``full`` compares all rows
    and adds the forward pass and the hyper-parameters. Without ``runtime`` tokenizer and forward
    pass are left out. ``tokens`` is what :func:`compare_tokens` found, if it was called before.

    Raises:
        SourceError: a file ended early.
    """
    if level is Level.OFF:
        return Report(level, ())
    everything = level is Level.FULL
    checks = [_check_tensors(plan, path, everything=everything)]
    if tokens is None and runtime is not None:
        tokens = compare_tokens(plan, runtime)
    if tokens is not None:
        checks.append(tokens)
    if everything:
        checks.append(compare_hyper_parameters(plan, path))
    if runtime is not None and everything:
        kinds = {target.kind for target in plan.layout.targets}
        with open_weights([target.tensor for target in plan.layout.targets]) as weights:
            checks.append(compare_logits(weights, plan.params, runtime, _least_cosine(kinds)))
    return Report(level, tuple(checks))


def _least_cosine(kinds: set[GGMLType]) -> float:
    error = max(_EXPECTED_ERROR[kind] for kind in kinds)
    return next(cosine for bound, cosine in _LEAST_COSINE if error <= bound)


@dataclass
class _Compared:
    """What was compared of one type, and the relative errors of its tensors."""

    values: int = 0
    rows: int = 0
    errors: list[float] = field(default_factory=list)


def _check_tensors(plan: Plan, path: Path, *, everything: bool) -> Check:
    targets = [target for part in plan.parts for target in part.targets]
    worst, worst_name = 0.0, ""
    compared: dict[GGMLType, _Compared] = defaultdict(_Compared)
    faults: list[str] = []
    with (
        open_sources(target.tensor for target in targets) as files,
        open_parts(path, targets) as written,
    ):
        reader = RowReader(files)
        for target in targets:
            squares = errors = 0.0
            of_type = compared[target.kind]
            file = written[target.part]
            for original, back in _rows(target, reader, file, everything=everything):
                squares += float(np.square(original, dtype=np.float64).sum())
                errors += float(np.square(back - original, dtype=np.float64).sum())
                of_type.values += original.size
                of_type.rows += len(original)
            relative = float(np.sqrt(errors / squares)) if squares else float(np.sqrt(errors))
            of_type.errors.append(relative)
            allowed = _TOLERANCE * _EXPECTED_ERROR[target.kind]
            if not relative <= allowed:
                faults.append(
                    f"{target.tensor.name} ({target.kind.name}) is off by {relative:.2%}, "
                    f"at most {allowed:.2%} is expected"
                )
            if relative > worst:
                worst, worst_name = relative, f"{target.tensor.name}, {target.kind.name}"
    values = sum(each.values for each in compared.values())
    detail = (
        f"{len(targets)} tensors, {values / 1e6:,.1f}M values, largest error {worst:.2%}"
        f" ({worst_name})"
    )
    figures = {
        "tensors": len(targets),
        "rows": sum(each.rows for each in compared.values()),
        "values": values,
        "relative_rms_error": {
            kind.name: {
                "tensors": len(each.errors),
                "mean": rounded(sum(each.errors) / len(each.errors)),
                "worst": rounded(max(each.errors)),
            }
            for kind, each in sorted(compared.items())
        },
    }
    return Check("weights", not faults, "; ".join(faults[:4]) or detail, figures=figures)


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


def compare_tokens(plan: Plan, runtime: Runtime) -> Check:
    """Compare llama.cpp's tokens of the probe texts with the original tokenizer's."""
    if not plan.probes:
        detail = "taken over from the source as it is"
        return Check("tokenizer", passed=True, detail=detail)
    pairs = [
        (text, runtime.tokenize(text), list(expected))
        for text, expected in zip(PROBES, plan.probes, strict=True)
    ]
    different = [text for text, found, expected in pairs if found != expected]
    figures = {
        "texts": len(PROBES),
        "tokens": sum(len(expected) for _, _, expected in pairs),
        "different": len(different),
    }
    if different:
        # One text may differ: llama.cpp's splittings treat a few rare characters their own way.
        detail = f"{len(different)} of {len(PROBES)} texts differ, e.g. {different[0][:40]!r}"
        return Check("tokenizer", len(different) <= 1, detail, noteworthy=True, figures=figures)
    detail = f"{len(PROBES)} texts give the same tokens"
    return Check("tokenizer", passed=True, detail=detail, figures=figures)
