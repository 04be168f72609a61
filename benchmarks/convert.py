"""Time ``edge-llama convert`` against llama.cpp's two steps, interleaved, on one checkpoint.

    python benchmarks/convert.py CHECKPOINT --tools BIN --llama-cpp SOURCE --python PY

With ``--shape 1.1b`` or ``8b-half`` a random checkpoint of that shape is made first, with the
tokenizer of CHECKPOINT. ``--without-kernels`` times the fall-back to ggml's own quantisers.
Each round runs both, one after the other, as processes of their own; medians are printed. The
page cache is warm for both after the first, uncounted round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import shapes
from peers import LlamaCpp, Usage, add_peer_options, measure


def show(label: str, runs: list[Usage], written: int) -> None:
    """Print the medians of several runs."""
    wall, cpu, peak = (
        statistics.median(getattr(run, name) for run in runs) for name in ("wall", "cpu", "peak")
    )
    print(f"{label:28} {wall:8.2f} {cpu:8.2f} {peak / 1e6:9.0f} {written / 1e6:11.0f}")


def main() -> int:
    """Measure every type asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--types", nargs="+", default=["q4_k_m", "q8_0"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", choices=sorted(shapes.SHAPES))
    parser.add_argument(
        "--scratch", type=Path, help="where to keep the files; by default a temporary folder"
    )
    parser.add_argument("--without-kernels", action="store_true")
    add_peer_options(parser)
    options = parser.parse_args()
    peer = LlamaCpp.from_options(options)
    if options.without_kernels:
        os.environ["EDGE_LLAMA_KERNELS"] = "0"
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        checkpoint: Path = options.checkpoint
        if options.shape:
            folder = options.scratch or Path(scratch)
            checkpoint = shapes.build(options.shape, checkpoint, folder / options.shape)
        ours, base, theirs = (Path(scratch) / name for name in ("ours", "base", "theirs"))
        for kind in options.types:
            mine: list[Usage] = []
            two_steps: list[Usage] = []
            for _ in range(options.rounds + 1):
                for old in (ours, base, theirs):  # to delete gigabytes takes a while too
                    old.unlink(missing_ok=True)
                command = [sys.executable, "-m", "edge_llama", "convert", str(checkpoint)]
                mine.append(measure(*command, "--type", kind, "-o", ours))
                first = peer.to_16_bit(checkpoint, base)
                two_steps.append(first + peer.quantise(base, theirs, kind))
            mine, two_steps = mine[1:], two_steps[1:]
            ratio = statistics.median(b.wall / a.wall for a, b in zip(mine, two_steps, strict=True))
            print(f"{kind:28} {'wall s':>8} {'CPU s':>8} {'peak MB':>9} {'written MB':>11}")
            show("edge-llama convert", mine, ours.stat().st_size)
            show("llama.cpp, two steps", two_steps, base.stat().st_size + theirs.stat().st_size)
            print(f"median ratio of wall times: {ratio:.1f}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
