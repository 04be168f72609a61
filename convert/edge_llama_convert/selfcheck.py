"""What can be checked of a GGUF without the checkpoint it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .agreement import NAME as FORWARD
from .agreement import compare_logits
from .checks import Check, Level, Report
from .errors import ConvertError, UnsupportedError
from .fileio import SharedFile
from .ggml import load_ggml
from .ggufparams import read_gguf_params
from .refs import BLOCK_SIZES
from .requantize import read_whole_header, tensors_of
from .rows import CHUNK_ELEMENTS, Scratch, all_finite, to_float32
from .vocab.probe import PROBES
from .weights import open_weights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from .checks import Runtime
    from .ggufsource import GGUFHeader
    from .refs import TensorRef

#: Least mean cosine between llama.cpp's logits and the reference's for the same weights. llama.cpp
#: multiplies quantised weights with activations of 8 bits, the reference with float32: the 135M
#: model's types give 0.987 to 0.999.
_LEAST_COSINE = 0.95

#: Tokenizers that keep a text as it is; others drop or fold characters.
_FAITHFUL = ("gpt2", "llama")


def examine(path: Path, level: Level, runtime: Runtime) -> Report:
    """Check the GGUF at ``path``, all of its shards if it is the first, by itself.

    Every tensor lies inside the file and holds no NaN or Inf; the vocabulary gives probe texts
    back; with ``full``, llama.cpp computes from the weights what the numpy reference does.

    Raises:
        SourceError, UnsupportedError: the header is damaged, or of an unknown version.
    """
    if level is Level.OFF:
        return Report(level, ())
    header = read_whole_header(path)
    checks = [_check_values(header), _check_round_trip(header, runtime)]
    if level is Level.FULL and all(check.passed for check in checks):
        checks.append(_check_forward(path, header, runtime))
    return Report(level, tuple(checks))


def _check_values(header: GGUFHeader) -> Check:
    refs = sorted(header.tensors.values(), key=lambda ref: (str(ref.path), ref.offset))
    figures = {"tensors": len(refs), "bytes": sum(ref.nbytes for ref in refs)}
    scratch = Scratch()
    faults: list[str] = []
    for path in dict.fromkeys(ref.path for ref in refs):
        with SharedFile(path) as file:
            faults += [
                f"{ref.name} ({ref.dtype}) holds NaN or Inf"
                for ref in refs
                if ref.path == path and not all(map(all_finite, _values(ref, file, scratch)))
            ]
    detail = f"{len(refs)} tensors inside the file, {figures['bytes'] / 1e6:,.1f} MB, all finite"
    return Check("values", not faults, "; ".join(faults[:4]) or detail, figures=figures)


def _values(
    ref: TensorRef, file: SharedFile, scratch: Scratch
) -> Iterator[npt.NDArray[np.float32] | npt.NDArray[np.float64]]:
    """Yield a tensor's values, some thousand at a time; nothing of an integer type."""
    elements, size = BLOCK_SIZES[ref.dtype]
    if ref.dtype != "F64" and not load_ggml().can_decode(ref.dtype):
        return
    step = CHUNK_ELEMENTS // elements * size
    for begin in range(0, ref.nbytes, step):
        nbytes = min(step, ref.nbytes - begin)
        raw = scratch.get("raw", nbytes)
        file.read_into(raw.data, ref.offset + begin)
        is_double = ref.dtype == "F64"
        yield raw.view(np.float64) if is_double else to_float32(raw, ref.dtype, scratch)


def _check_round_trip(header: GGUFHeader, runtime: Runtime) -> Check:
    """Turn the probes into tokens and back, as far as the tokenizer is one that keeps texts."""
    name = "tokenizer"
    entry = header.metadata.get("tokenizer.ggml.model")
    if entry is None or entry.value not in _FAITHFUL:
        kind = entry.value if entry else None
        detail = f"texts not compared: no round trip is defined for tokenizer {kind!r}"
        return Check(name, passed=True, detail=detail, noteworthy=True)
    changed, tokens = [], 0
    for text in PROBES:
        ids = runtime.tokenize(text)
        back = runtime.detokenize(ids).decode("utf-8", errors="replace")
        tokens += len(ids)
        # SentencePiece puts a space before a text.
        if back not in {text, f" {text}"}:
            changed.append(text)
    figures = {"texts": len(PROBES), "tokens": tokens, "different": len(changed)}
    if changed:
        # One may change: small vocabularies lack the bytes of rare characters.
        detail = f"{len(changed)} of {len(PROBES)} texts change, e.g. {changed[0][:40]!r}"
        return Check(name, len(changed) <= 1, detail, noteworthy=True, figures=figures)
    detail = f"{len(PROBES)} texts come back as they were"
    return Check(name, passed=True, detail=detail, figures=figures)


def _check_forward(path: Path, header: GGUFHeader, runtime: Runtime) -> Check:
    try:
        params = read_gguf_params(path, header)
    except UnsupportedError as error:
        return Check(FORWARD, passed=True, detail=f"not compared: {error}", noteworthy=True)
    except ConvertError as error:  # llama.cpp might end the process
        return Check(FORWARD, passed=False, detail=str(error))
    with open_weights(tensors_of(header)) as weights:
        return compare_logits(weights, params, runtime, _LEAST_COSINE)
