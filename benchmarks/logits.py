"""Compare a converted model's logits with those of transformers, position by position.

    python benchmarks/logits.py MODEL.gguf [...] --reference CHECKPOINT/reference.npz

``reference.npz`` holds ``prompts`` and, for each prompt i, ``ids_i`` (int64 ``[n]``) and
``logits_i`` (float32 ``[n, n_vocab]``) of the transformers model computed in float32.
``--fixture OUT`` writes the excerpt that the tests use: every 48th logit in float16, and the top-1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_llama import ModelConfig
from edge_llama.decoder import Part
from edge_llama.native import NativeContext, NativeModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

STRIDE = 48


def all_logits(path: Path, prompts: list[list[int]]) -> list[npt.NDArray[np.float32]]:
    """Return the logits ``[n, n_vocab]`` of every position of every prompt."""
    config = ModelConfig()
    model = NativeModel(path, config)
    context = NativeContext(model, config, n_ctx=512, n_outputs=512)
    results = []
    for tokens in prompts:
        context.clear()
        context.decode([Part(0, tokens, 0, wants_logits=True)], all_logits=True)
        results.append(context.logits(len(tokens)).copy())
    context.close()
    model.close()
    return results


def write_fixture(reference: Mapping[str, npt.NDArray[Any]], count: int, out: Path) -> None:
    """Write the excerpt for the tests."""
    n_vocab = reference["logits_0"].shape[1]
    arrays: dict[str, npt.NDArray[Any]] = {
        "prompts": reference["prompts"],
        "columns": np.arange(0, n_vocab, STRIDE, dtype=np.int32),
    }
    for i in range(count):
        logits = reference[f"logits_{i}"]
        arrays[f"ids_{i}"] = reference[f"ids_{i}"].astype(np.int32)
        arrays[f"top_{i}"] = logits.argmax(axis=1).astype(np.int32)
        arrays[f"logits_{i}"] = logits[:, ::STRIDE].astype(np.float16)
    np.savez_compressed(out, allow_pickle=False, **arrays)


def main() -> int:
    """Print, per model, the smallest cosine and the share of equal top-1 tokens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="*")
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--fixture", type=Path)
    options = parser.parse_args()
    reference = np.load(options.reference)
    count = len(reference["prompts"])
    if options.fixture:
        write_fixture(reference, count, options.fixture)
    prompts = [reference[f"ids_{i}"].tolist() for i in range(count)]
    for path in options.models:
        cosines, tops = [], []
        for i, ours in enumerate(all_logits(path, prompts)):
            theirs = reference[f"logits_{i}"]
            norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
            cosines.append((ours * theirs).sum(axis=1) / norms)
            tops.append(ours.argmax(axis=1) == theirs.argmax(axis=1))
        worst, equal = np.concatenate(cosines).min(), np.concatenate(tops)
        print(f"{path.name}: cosine >= {worst:.6f}, same top-1 {equal.sum()} of {equal.size}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
