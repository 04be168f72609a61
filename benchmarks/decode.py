"""Prefill and decode speed against llama-bench and llama-cpp-python's Llama, interleaved.

    python benchmarks/decode.py MODEL.gguf --tools BIN

Every round runs them in turn, in another order each, every one in a process of its own: llama-bench
on random tokens without sampling, with its defaults (flash attention) and with ``-fa off``;
edge-llama streaming text with the default sampler; Llama streaming text with its own. All generate
after as many tokens of a prompt: 16, and ``--prompt``. Ratios are medians over the rounds. All
compute in the same way: nothing may use AMX (see ``amx.py``), and weights are repacked where
``--repack`` says so, except in Llama, which always does; of some types, Q4_1 among them, repacking
has no kernels, so that there it makes no difference. ``--profile`` says where the time of a token
goes.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amx import deny_amx
from rounds import run_rounds

if TYPE_CHECKING:
    from collections.abc import Callable

STORY = (
    "Once upon a time, in a small village by the sea, there lived an old woman who mended nets. "
    "Every morning she went down to the harbour, where the boats came in, and asked the fishermen "
    "what they had seen. One told her of a light under the water, and another of a bell. "
)
SHORT = 16


def llama_bench(options: argparse.Namespace, *more: str) -> dict[str, float]:
    """Tokens per second of reading a prompt and of generating."""
    figures = {}
    for name, test in {
        "prefill": ("-p", options.prompt, "-n", 0),
        "decode": ("-p", 0, "-n", options.tokens, "-d", SHORT),
        "decode after prompt": ("-p", 0, "-n", options.tokens, "-d", options.prompt),
    }.items():
        run = subprocess.run(
            [
                *(options.tools / "llama-bench", "-m", options.model, "-r", "1", "-o", "json"),
                *("-t", str(options.threads), "--repack", str(int(options.repack == "on"))),
                *(*map(str, test), *more),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        (result,) = json.loads(run.stdout)
        figures[name] = result["avg_ts"]
    return figures


def llama_bench_without(options: argparse.Namespace) -> dict[str, float]:
    """Measure it without flash attention, which it uses by default."""
    return llama_bench(options, "-fa", "off")


def opening(tokenize: Callable[[str], list[int]], count: int) -> list[int]:
    """Return the first ``count`` tokens of a story that goes round and round."""
    return tokenize(STORY * (1 + count // 32))[:count]


def edge_llama(options: argparse.Namespace) -> dict[str, float]:
    """Measure our own engine, in this process."""
    from edge_llama import Model, Sampling

    n_ctx = options.prompt + options.tokens + 64
    figures: dict[str, float] = {}
    with Model.open(
        options.model,
        n_ctx=n_ctx,
        threads=options.threads,
        repack=options.repack,
        flash_attention=options.flash_attention,
    ) as model:
        draw = random.Random(1)  # noqa: S311 - not a secret
        prompt = [draw.randrange(model.info.n_vocab) for _ in range(options.prompt)]
        one = Sampling(max_tokens=1, seed=1)
        model.generate(prompt[:16], sampling=one)  # warms up, as llama-bench does
        figures["prefill"] = model.generate(prompt[::-1], sampling=one).prefill_tokens_per_second
        times = _watch() if options.profile else {}
        for name, count in (("decode", SHORT), ("decode after prompt", options.prompt)):
            start = opening(model.tokenize, count)
            for seed in range(1, 9):  # until a story is long enough
                times.clear()
                stream = model.stream(
                    start, raw=True, sampling=Sampling(max_tokens=options.tokens, seed=seed)
                )
                for _ in stream:
                    pass
                reply = stream.reply
                if reply.completion_tokens == options.tokens:
                    break
            figures[name] = reply.tokens_per_second
            if times:
                total = 1e6 * reply.decode_seconds / (reply.completion_tokens - 1)
                figures[f"{name}, token us"] = total
            for call, seconds in times.items():  # the first decode is the prompt's
                figures[f"{name}, {call} us"] = 1e6 * statistics.mean(seconds[1:])
    return figures


def _watch() -> dict[str, list[float]]:
    """Time every call into llama.cpp from now on."""
    from edge_llama.native.library import llama

    library, times = llama(), defaultdict[str, list[float]](list)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                times[name].append(time.perf_counter() - started)

        return call

    for name in ("llama_decode", "llama_sampler_sample", "llama_token_to_piece"):
        setattr(library, name, timed(name, getattr(library, name)))
    return times


def llama_cpp_python(options: argparse.Namespace) -> dict[str, float]:
    """Measure llama-cpp-python's own class, in this process; decode only."""
    from llama_cpp import Llama

    model = Llama(
        str(options.model),
        n_ctx=options.prompt + options.tokens + 64,
        n_threads=options.threads,
        verbose=False,
    )
    figures = {}
    for name, length in (("decode", SHORT), ("decode after prompt", options.prompt)):
        first = last = 0.0
        count = 0
        start = opening(lambda text: model.tokenize(text.encode()), length)
        chunks: Any = model.create_completion(start, max_tokens=options.tokens, stream=True, seed=1)
        for chunk in chunks:
            last = time.perf_counter()
            first = first or last
            count += bool(chunk["choices"][0]["text"])
        if last - first > 1e-3 * count:  # random weights may end, or spell no text, at once
            figures[name] = (count - 1) / (last - first)
    return figures


ENGINES: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {
    "llama-bench": llama_bench,
    "llama-bench -fa off": llama_bench_without,
    "edge-llama": edge_llama,
    "Llama": llama_cpp_python,
}


def main() -> int:
    """Print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tools", type=Path, required=True, help="folder with llama-bench")
    parser.add_argument("--prompt", type=int, default=512, help="tokens to read")
    parser.add_argument("--tokens", type=int, default=128, help="tokens to generate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one process")
    parser.add_argument("--repack", choices=("on", "off"), default="off")
    parser.add_argument("--flash-attention", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        deny_amx()
        json.dump(ENGINES[options.engine](options), sys.stdout)
        return 0
    rounds = run_rounds(ENGINES, options.rounds, timeout=options.timeout)
    ours = rounds[0]["edge-llama"]
    for name in ours:
        for engine in ENGINES:
            found = [figures[engine][name] for figures in rounds if name in figures[engine]]
            if len(found) < len(rounds):
                continue
            line = f"{name:24} {engine:20} {statistics.median(found):10.1f}"
            if engine != "edge-llama":
                ratios = [figures["edge-llama"][name] / figures[engine][name] for figures in rounds]
                line += f"   edge-llama is {statistics.median(ratios):.3f} times as fast"
                line += f" ({min(ratios):.3f} to {max(ratios):.3f})"
            print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
