"""Compare our GGUFs with llama.cpp's for small random checkpoints of every supported family.

    python benchmarks/identical_families.py --tools BIN --llama-cpp SOURCE --python PY

Ours is verified and holds its report; that one key, the last, is taken out before the comparison.
Exit code 1 when a file differs. ``--write`` keeps the sha256 of llama.cpp's files for the tests.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path

from identical_gguf import compare
from peers import LlamaCpp, add_peer_options

from edge_llama_convert import Recipe

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import families
from reports import convert_with_report, without_report

#: The checkpoint's dtype -> the type of llama.cpp's first step that loses nothing of it.
_FIRST_STEP = {"F16": "f16", "BF16": "bf16"}


def main() -> int:
    """Run the matrix of families, shapes and types."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(families.FAMILIES))
    parser.add_argument("--types", nargs="+", default=[recipe.value for recipe in Recipe])
    parser.add_argument("--write", action="store_true", help="keep llama.cpp's digests")
    add_peer_options(parser)
    options = parser.parse_args()
    peer = LlamaCpp.from_options(options)
    digests: dict[str, dict[str, str]] = {}
    wrong = total = 0
    with tempfile.TemporaryDirectory() as scratch:
        ours, base, theirs = (Path(scratch) / name for name in ("ours", "base", "theirs"))
        for name in options.families:
            for shape in families.SHAPES:
                source = families.build(Path(scratch), name, shape)
                kind = _FIRST_STEP[families.FAMILIES[name].dtype]
                peer.to_16_bit(source, base, kind)
                digests[source.name] = {}
                for recipe in options.types:
                    convert_with_report(source, ours, recipe=recipe)
                    peer.quantise(base, theirs, recipe)
                    content = theirs.read_bytes()
                    digests[source.name][recipe] = hashlib.sha256(content).hexdigest()
                    total += 1
                    bare = without_report(ours)
                    if content != bare:
                        wrong += 1
                        ours.write_bytes(bare)
                        print(f"{source.name} {recipe} differs", flush=True)
                        for line in compare(ours, theirs)[2]:
                            print(f"    {line}")
                print(f"{source.name}: {len(options.types)} types compared", flush=True)
    print(f"{total - wrong} of {total} files identical")
    if options.write:
        known = json.loads(families.DIGESTS.read_text(encoding="utf-8"))
        for source_name, found in digests.items():
            known.setdefault(source_name, {}).update(found)
        text = json.dumps(known, indent=1) + "\n"
        families.DIGESTS.write_text(text, encoding="utf-8")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
