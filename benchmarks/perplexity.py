"""Our perplexity against llama-perplexity's: the same file, text and context.

    python benchmarks/perplexity.py MODEL.gguf TEXT --tools BIN [--against BASE.gguf]

Weight repacking is off everywhere. With ``--against`` the KL divergence, too; llama-perplexity
keeps the base's probabilities in 16 bits.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from edge_llama import ModelConfig
from edge_llama.evaluate import compare, perplexity

_NUMBER = r"([\d.]+)"


def llama_perplexity(options: argparse.Namespace, model: Path, *more: str | Path) -> str:
    """Return what llama-perplexity says of a model."""
    run = subprocess.run(
        [
            *(options.tools / "llama-perplexity", "-m", model, "-f", options.text),
            *("-c", str(options.ctx), "-t", str(options.threads), "--no-repack", *more),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout + run.stderr


def found(pattern: str, text: str) -> float:
    """Return the number that a pattern finds."""
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"no {pattern!r} in llama-perplexity's output: {text[-500:]}")
    return float(match[1])


def main() -> int:
    """Print both figures and the difference; 1 if it is more than half a percent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--tools", type=Path, required=True, help="folder with llama-perplexity")
    parser.add_argument("--against", type=Path, help="the model it was made of")
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    text = options.text.read_bytes().decode().removesuffix("\n")
    config = ModelConfig(n_ctx=options.ctx, threads=options.threads, repack="off")
    rows: list[tuple[str, float, float]] = []
    if options.against is None:
        ours = perplexity(options.model, text, config)
        said = llama_perplexity(options, options.model)
        theirs = found(rf"Final estimate: PPL = {_NUMBER}", said)
        rows.append(("perplexity", ours.perplexity.value, theirs))
        rows.append(
            ("its error", ours.perplexity.error, found(rf"PPL = [\d.]+ \+/- {_NUMBER}", said))
        )
    else:
        both = compare(options.model, options.against, text, config)
        with tempfile.TemporaryDirectory() as folder:
            kept = "--kl-divergence-base", Path(folder) / "base"
            llama_perplexity(options, options.against, *kept)
            said = llama_perplexity(options, options.model, *kept, "--kl-divergence")
        for name, value, pattern in (
            ("perplexity", both.this.perplexity.value, r"Mean PPL\(Q\)"),
            ("of the base", both.base.perplexity.value, r"Mean PPL\(base\)"),
            ("ratio", both.ratio.value, r"Mean PPL\(Q\)/PPL\(base\)"),
            ("mean KL", both.divergence.mean.value, "Mean +KLD"),
            ("median KL", both.divergence.median, "Median +KLD"),
            ("99 % KL", both.divergence.percentile_99, r"99\.0% +KLD"),
            ("same top, %", 100 * both.same_top.value, "Same top p"),
        ):
            rows.append((name, value, found(rf"{pattern} *: +{_NUMBER}", said)))
    for name, mine, theirs in rows:
        print(f"{name:12} {mine:12.5f} {theirs:12.5f} {100 * (mine / theirs - 1):+8.3f} %")
    return int(abs(rows[0][1] / rows[0][2] - 1) > 0.005)


if __name__ == "__main__":
    sys.exit(main())
