"""Memory: predicted beside measured, of real processes whose context was filled in one go.

    python benchmarks/memory.py                      # the embedded model, a grid of 27 points
    python benchmarks/memory.py MODEL.gguf --contexts 512 8192 --kv f16 --batches 128
    python benchmarks/memory.py --vocabularies       # bytes per token, also for grammars

Growth is what opening and a full prefill add to the process (Rss of /proc/self/smaps_rollup).
Filling long contexts takes minutes per point.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import string
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from edge_llama import Grammar, Model, Sampling, find_model, inspect
from edge_llama.memory import grammar_bytes

MIB = 2**20


def child(path: str, options: dict[str, Any]) -> None:
    """Open a model, fill its context, print what was planned and measured."""
    vocabulary = inspect(path).n_vocab
    with Model.open(path, **options) as model:
        tokens = [i % vocabulary for i in range(300, 299 + model.n_ctx)]
        model.generate(tokens, sampling=Sampling(max_tokens=1, temperature=0))
        receipt = model.memory()
        words = Grammar.regex("[a-z]{3,300}")
        model.generate([1], grammar=words, sampling=Sampling(max_tokens=30))
        grammar = model.memory().growth - receipt.growth
    plan, host = receipt.plan.host, receipt.host
    print(
        json.dumps(
            {
                "planned": plan.total,
                "planned_grammar": grammar_bytes(vocabulary),
                "grammar": grammar,
                "measured": receipt.growth,
                "planned_private": plan.private,
                "measured_private": receipt.growth - host.weights,
                "planned_compute": plan.compute,
                "compute": host.compute,
                "planned_kv": plan.kv_cache,
                "kv": host.kv_cache,
                "planned_overhead": plan.overhead,
                "overhead": host.overhead,
                "peak": (receipt.process.peak or 0) - receipt.plan.process,
            }
        )
    )


def measure(path: Path, options: dict[str, Any]) -> dict[str, int]:
    """Run :func:`child` in a process of its own."""
    command = [sys.executable, __file__, str(path), "--child", json.dumps(options)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, int] = json.loads(done.stdout)
    return result


def grid(path: Path, contexts: list[int], kinds: list[str], batches: list[int]) -> None:
    """Print the table of predicted and measured growth."""
    print("| context | KV | batch | KV cache | compute | overhead | planned | measured | error |")
    print("|---|---|---|---|---|---|---|---|---|")
    errors = []
    for n_ctx, kind, batch in itertools.product(contexts, kinds, batches):
        options = {"n_ctx": n_ctx, "kv_type": kind, "n_batch": batch, "n_ubatch": batch}
        found = {key: value / MIB for key, value in measure(path, options).items()}
        errors.append(found["planned"] / found["measured"] - 1)
        print(
            f"| {n_ctx} | {kind} | {batch} | {found['planned_kv']:.1f} / {found['kv']:.1f} "
            f"| {found['planned_compute']:.2f} / {found['compute']:.2f} "
            f"| {found['planned_overhead']:.1f} / {found['overhead']:.1f} "
            f"| {found['planned']:.1f} | {found['measured']:.1f} | {errors[-1]:+.1%} |",
            flush=True,
        )
    print(f"\nMiB, planned / measured; errors from {min(errors):+.1%} to {max(errors):+.1%}")


def vocabularies() -> None:
    """Print what vocabularies of several sizes add, beside the formula."""
    cases = [("gpt2", 32000, 31000), ("gpt2", 64000, 63000), ("gpt2", 128256, 128000)]
    cases += [("gpt2", 128256, 280147), ("llama", 32000, 0), ("llama", 128000, 0)]
    print("| tokenizer | tokens | merges | planned MiB | measured MiB | peak above | grammar |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for kind, n_tokens, n_merges in cases:
            path = Path(folder) / "model.gguf"
            write_vocabulary(path, kind, n_tokens, n_merges)
            found = measure(path, {"n_ctx": 256, "n_ubatch": 32})
            print(
                f"| {kind} | {n_tokens} | {n_merges} | {found['planned_overhead'] / MIB:.1f} "
                f"| {found['overhead'] / MIB:.1f} "
                f"| {(found['peak'] - found['measured']) / MIB:.1f} "
                f"| {found['planned_grammar'] / MIB:.1f} / {found['grammar'] / MIB:.1f} |",
                flush=True,
            )


def write_vocabulary(path: Path, kind: str, n_tokens: int, n_merges: int) -> None:
    """Write a model of two tiny layers with a random vocabulary."""
    draw = random.Random(0)  # noqa: S311 - the same each time
    letters = [chr(0x100 + i) if kind == "gpt2" else f"<0x{i:02X}>" for i in range(256)]
    words = ["<unk>", "<s>", "</s>", *letters]
    seen = set(words)
    while len(words) < n_tokens:
        word = "".join(draw.choices(string.ascii_lowercase, k=max(2, round(draw.gauss(6, 2.5)))))
        if word not in seen:
            seen.add(word)
            words.append(word)
    width = 32
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in (
        (writer.add_block_count, 2),
        (writer.add_context_length, 4096),
        (writer.add_embedding_length, width),
        (writer.add_feed_forward_length, 2 * width),
        (writer.add_head_count, 1),
        (writer.add_head_count_kv, 1),
        (writer.add_rope_dimension_count, width),
        (writer.add_vocab_size, n_tokens),
        (writer.add_bos_token_id, 1),
        (writer.add_eos_token_id, 2),
    ):
        add(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model(kind)
    writer.add_token_list(words)
    writer.add_token_types([2, 3, 3] + [1 if kind == "gpt2" else 6] * 256 + [1] * (n_tokens - 259))
    if kind == "gpt2":
        writer.add_tokenizer_pre("llama-bpe")
        pairs = ((words[259 + i % (n_tokens - 259)], i) for i in range(n_merges))
        cuts = ((word, 1 + i // n_tokens % (len(word) - 1)) for word, i in pairs)
        writer.add_token_merges([f"{word[:cut]} {word[cut:]}" for word, cut in cuts])
    else:
        writer.add_token_scores([-float(i) for i in range(n_tokens)])
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd": (n_tokens, width),
        "output_norm": (width,),
    }
    for i in range(2):
        shapes |= {f"blk.{i}.{name}": (width, width) for name in ("attn_q", "attn_k", "attn_v")}
        shapes |= {f"blk.{i}.{name}": (width,) for name in ("attn_norm", "ffn_norm")}
        shapes[f"blk.{i}.attn_output"] = (width, width)
        shapes |= {f"blk.{i}.{name}": (2 * width, width) for name in ("ffn_gate", "ffn_up")}
        shapes[f"blk.{i}.ffn_down"] = (width, 2 * width)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model", nargs="?", help="a GGUF; by default the embedded model")
    parser.add_argument("--contexts", type=int, nargs="+", default=[512, 2048, 4096])
    parser.add_argument("--kv", nargs="+", default=["f16", "q8_0", "q4_0"])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--vocabularies", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.model, json.loads(options.child))
    elif options.vocabularies:
        vocabularies()
    else:
        grid(find_model(options.model), options.contexts, options.kv, options.batches)


if __name__ == "__main__":
    main()
