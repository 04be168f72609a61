"""Compare our GGUF with llama.cpp's two steps on one checkpoint: every tensor, every key.

    python benchmarks/identical_gguf.py CHECKPOINT --tools BIN --llama-cpp SOURCE --python PY

Ours is verified and holds its report; that one key, the last, is taken out before the comparison.
Exit code 1 when a tensor's bytes, its type or another metadata key differ.
"""

from __future__ import annotations

import argparse
import filecmp
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
from peers import LlamaCpp, add_peer_options

from edge_llama_convert import Recipe, SplitLimit, convert, plan

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from reports import convert_with_report, without_report


def compare(ours: Path, theirs: Path) -> tuple[int, int, list[str]]:
    """Return the number of equal tensors and keys, and a line for every difference."""
    left, right = gguf.GGUFReader(ours), gguf.GGUFReader(theirs)
    differences: list[str] = []
    keys = 0
    for key in sorted(left.fields.keys() | right.fields.keys()):
        values = [
            reader.fields[key].contents() if key in reader.fields else None
            for reader in (left, right)
        ]
        keys += values[0] == values[1]
        if values[0] != values[1]:
            differences.append(f"key {key}: {str(values[0])[:60]} / {str(values[1])[:60]}")
    tensors = 0
    others = {tensor.name: tensor for tensor in right.tensors}
    for tensor in left.tensors:
        other = others.pop(tensor.name, None)
        same = (
            other is not None
            and tensor.tensor_type == other.tensor_type
            and np.array_equal(tensor.shape, other.shape)
            and np.array_equal(tensor.data.view(np.uint8), other.data.view(np.uint8))
        )
        tensors += same
        if not same:
            differences.append(f"tensor {tensor.name} differs")
    differences += [f"tensor {name} is missing" for name in others]
    return tensors, keys, differences


def compare_parts(
    kind: str, theirs: Path, peer: LlamaCpp, options: argparse.Namespace
) -> tuple[int, list[str]]:
    """Split both files, ours while it is written; return the number of parts and what differs."""
    limit = SplitLimit.parse(options.split_max_size, None)
    work = plan(options.checkpoint, recipe=kind, imatrix=options.imatrix, split=limit)
    with tempfile.TemporaryDirectory(dir=theirs.parent) as scratch:
        left, right = (Path(scratch) / name for name in ("left", "right"))
        right.mkdir()
        convert(work, left / "part.gguf")
        peer.split(theirs, right / "part", options.split_max_size)
        names = sorted({path.name for folder in (left, right) for path in folder.iterdir()})
        _, mismatch, errors = filecmp.cmpfiles(left, right, names, shallow=False)
    return len(names), [f"{name} differs" for name in mismatch + errors]


def main() -> int:
    """Run the comparison for every type asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "--types",
        nargs="+",
        default=[recipe.value for recipe in Recipe],
        help="file types to compare; by default all",
    )
    parser.add_argument("--imatrix", help="a file of llama-imatrix to quantise with")
    parser.add_argument("--split-max-size", help="compare with llama-gguf-split too, e.g. 40M")
    add_peer_options(parser)
    options = parser.parse_args()
    peer = LlamaCpp.from_options(options)
    failed = False
    print(f"{'type':8} {'tensors':>8} {'keys':>6}  whole file")
    with tempfile.TemporaryDirectory() as scratch:
        ours, base, theirs = (Path(scratch) / name for name in ("ours", "base", "theirs"))
        peer.to_16_bit(options.checkpoint, base)
        for kind in options.types:
            convert_with_report(options.checkpoint, ours, recipe=kind, imatrix=options.imatrix)
            ours.write_bytes(without_report(ours))
            peer.quantise(base, theirs, kind, options.imatrix)
            tensors, keys, differences = compare(ours, theirs)
            whole = "identical" if filecmp.cmp(ours, theirs, shallow=False) else "differs"
            if options.split_max_size:
                parts, wrong = compare_parts(kind, theirs, peer, options)
                whole += f", in {parts} parts too" if not wrong else ", parts differ"
                differences += wrong
            print(f"{kind:8} {tensors:8} {keys:6}  {whole}", flush=True)
            for line in differences:
                print(f"    {line}")
            failed |= bool(differences)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
