"""Compare our GGUFs with llama.cpp's for small random checkpoints of every supported family.

    python benchmarks/identical_families.py --tools BIN --llama-cpp SOURCE --python PY

Ours is verified and holds its report; that one key, the last, is taken out before the comparison.
Exit code 1 when a file differs. ``--write`` keeps the sha256 of llama.cpp's files for the tests.
``--imatrix`` compares what both make with importance matrices (tests/imatrices.py) instead.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from identical_gguf import compare
from peers import LlamaCpp, add_peer_options

from edge_llama_convert import Recipe

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import families
import imatrices
from reports import convert_with_report, without_report

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The checkpoint's dtype -> the type of llama.cpp's first step that loses nothing of it.
_FIRST_STEP = {"F32": "f32", "F16": "f16", "BF16": "bf16"}


def _sources(
    scratch: Path, options: argparse.Namespace, peer: LlamaCpp
) -> Iterator[tuple[str, Path, str | None]]:
    """Build one checkpoint after the other, and what llama-quantize needs: ``scratch/base``.

    Yields a label, the checkpoint, and the name of an importance matrix.
    """
    every = [(name, shape) for name in families.FAMILIES for shape in families.SHAPES]
    for name, shape in imatrices.CASES if options.imatrix else every:
        if name not in options.families:
            continue
        source = families.build(scratch, name, shape)
        peer.to_16_bit(source, scratch / "base", _FIRST_STEP[families.FAMILIES[name].dtype])
        if options.imatrix:
            for imatrix in imatrices.write(scratch, families.config(name, shape)):
                yield f"{source.name} {imatrix}", source, imatrix
        else:
            yield source.name, source, None


def main() -> int:
    """Run the matrix of families, shapes and types."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(families.FAMILIES))
    parser.add_argument("--imatrix", action="store_true", help="with importance matrices")
    parser.add_argument("--types", nargs="+", default=[recipe.value for recipe in Recipe])
    parser.add_argument("--write", action="store_true", help="keep llama.cpp's digests")
    add_peer_options(parser)
    options = parser.parse_args()
    peer = LlamaCpp.from_options(options)
    digests: dict[str, dict[str, str]] = {}
    wrong = total = 0
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        os.chdir(scratch)  # llama-quantize keeps the path of an imatrix as it is given
        ours, base, theirs = (scratch / name for name in ("ours", "base", "theirs"))
        for label, source, imatrix in _sources(scratch, options, peer):
            digests[label] = {}
            for recipe in options.types:
                convert_with_report(source, ours, recipe=recipe, imatrix=imatrix)
                peer.quantise(base, theirs, recipe, imatrix)
                content = theirs.read_bytes()
                digests[label][recipe] = hashlib.sha256(content).hexdigest()
                total += 1
                bare = without_report(ours)
                if content != bare:
                    wrong += 1
                    ours.write_bytes(bare)
                    print(f"{label} {recipe} differs", flush=True)
                    for line in compare(ours, theirs)[2]:
                        print(f"    {line}")
            print(f"{label}: {len(options.types)} types compared", flush=True)
    print(f"{total - wrong} of {total} files identical")
    if options.write:
        path = imatrices.DIGESTS if options.imatrix else families.DIGESTS
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for label, found in digests.items():
            known.setdefault(label, {}).update(found)
        path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
