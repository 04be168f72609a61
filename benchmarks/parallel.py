"""Several generations in one batch against one after the other: tokens per second of all of them.

    python benchmarks/parallel.py [MODEL.gguf] [--counts 2 4 8] [--rounds 5] [--tokens 64]

Both ways take turns, so that whatever else the machine does hits both; the ratio is the median of
the rounds' ratios. Candidates share their prompt, requests have prompts of their own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING

from edge_llama import Model, Sampling, find_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_llama import Reply

STORY = "Once upon a time, in a village by the sea, there lived an old woman who "
SUBJECTS = ("baked", "sang", "painted", "sailed", "counted", "dreamt", "wove", "dug")


def rate(run: Callable[[], Sequence[Reply]]) -> float:
    """Return the generated tokens per second of wall time."""
    started = time.perf_counter()
    replies = run()
    return sum(reply.completion_tokens for reply in replies) / (time.perf_counter() - started)


def from_threads(model: Model, prompts: Sequence[str], sampling: Sampling) -> list[Reply]:
    """Ask from one thread per prompt."""
    replies: list[Reply] = []

    def ask(prompt: str) -> None:
        replies.append(model.generate(prompt, sampling=sampling, raw=True))

    threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return replies


def compare(model: Model, count: int, options: argparse.Namespace) -> None:
    """Print both rates for candidates and for requests."""
    sampling = Sampling(temperature=1.0, seed=1, max_tokens=options.tokens)
    prompts = [STORY + subject for subject in SUBJECTS[:count]]
    ways: dict[str, tuple[Callable[[], Sequence[Reply]], Callable[[], Sequence[Reply]]]] = {
        "candidates": (
            lambda: [model.generate(STORY, sampling=sampling, raw=True) for _ in range(count)],
            lambda: model.generate(STORY, n=count, sampling=sampling, raw=True),
        ),
        "requests": (
            lambda: [model.generate(prompt, sampling=sampling, raw=True) for prompt in prompts],
            lambda: from_threads(model, prompts, sampling),
        ),
    }
    for name, (one_by_one, together) in ways.items():
        rounds = [(rate(one_by_one), rate(together)) for _ in range(options.rounds)]
        alone = statistics.median(first for first, _ in rounds)
        batch = statistics.median(second for _, second in rounds)
        ratio = statistics.median(second / first for first, second in rounds)
        print(f"| {name} | {count} | {alone:.1f} | {batch:.1f} | {ratio:.2f} |", flush=True)


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", help="a GGUF file; by default the embedded model")
    parser.add_argument("--counts", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    with Model.open(find_model(options.model), n_parallel=max(options.counts)) as model:
        model.generate(STORY, sampling=Sampling(max_tokens=8), raw=True)  # warm
        print("| | n | one by one, tokens/s | together, tokens/s | ratio |")
        print("|---|---|---|---|---|")
        for count in options.counts:
            compare(model, count, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
