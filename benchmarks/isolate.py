"""A model in a child process against one in this process: tokens per second, as a caller sees it.

    python benchmarks/isolate.py [MODEL.gguf] [--rounds 20] [--tokens 64] [--streams 1 4]

Both take turns, and begin by turns, so that whatever else the machine does hits both; the ratio is
the median of the rounds' ratios. Processor time, of parent and child together, is what to look at
on a busy machine (Linux). Then how long a child takes to start, to be missed after SIGKILL, and to
be replaced.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edge_llama import Model, Sampling, WorkerDied, find_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_llama import Stream

PROMPT = "Once upon a time, in a village by the sea, there lived an old woman who "


def processor_seconds(child: int) -> float:
    """Return what this process and a child have used."""
    fields = Path(f"/proc/{child}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    ticks = sum(map(int, fields[11:13]))
    return sum(os.times()[:2]) + ticks / os.sysconf("SC_CLK_TCK")


def pid_of(model: Model) -> int:
    """Return the process id of an isolated model."""
    return int(model._opened.pid)  # type: ignore[attr-defined] # noqa: SLF001 - for the benchmark


def rate(model: Model, tokens: int, streams: int) -> float:
    """Return the tokens per second of all streams, each read by its text."""
    sampling = Sampling(temperature=1.0, seed=1, max_tokens=tokens, stop=())
    started = time.perf_counter()
    with ExitStack() as stack:
        running: Sequence[Stream] = [
            stack.enter_context(model.stream(PROMPT + str(i), sampling=sampling, raw=True))
            for i in range(streams)
        ]
        count = 0
        for stream in running:
            for _ in stream:
                pass
            count += stream.reply.completion_tokens
    return count / (time.perf_counter() - started)


def compare(here: Model, child: Model, options: argparse.Namespace, streams: int) -> None:
    """Print both rates and their ratio."""
    rounds: list[tuple[float, float]] = []
    used = {here: 0.0, child: 0.0}
    for i in range(options.rounds):
        rates: dict[Model, float] = {}
        for model in (here, child) if i % 2 else (child, here):
            before = processor_seconds(pid_of(child))
            rates[model] = rate(model, options.tokens, streams)
            used[model] += processor_seconds(pid_of(child)) - before
        rounds.append((rates[here], rates[child]))
    alone = statistics.median(first for first, _ in rounds)
    apart = statistics.median(second for _, second in rounds)
    ratio = statistics.median(second / first for first, second in rounds)
    cost = used[child] / used[here]
    print(f"| {streams} | {alone:.1f} | {apart:.1f} | {ratio:.3f} | {cost:.3f} |", flush=True)


def replacement(model: Model) -> tuple[float, float]:
    """Return seconds from SIGKILL to the error, and of the next call."""
    stream = model.stream("word " * 500, raw=True)
    pid = pid_of(model)
    time.sleep(0.2)
    started = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    try:
        for _ in stream:
            pass
    except WorkerDied:
        died = time.perf_counter()
    model.tokenize("x")
    return died - started, time.perf_counter() - died


def main() -> int:
    """Print the table and the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", help="a GGUF file; by default the embedded model")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4])
    options = parser.parse_args()
    path = find_model(options.model)
    with (
        Model.open(path, n_ctx=2048) as here,
        Model.open(path, n_ctx=2048, isolate=True) as child,
    ):
        for model in (here, child):
            rate(model, 8, 1)  # warm
        print("| streams | here, tokens/s | in a child | median ratio | processor time |")
        print("|---|---|---|---|---|")
        for streams in options.streams:
            compare(here, child, options, streams)
        times = [replacement(child) for _ in range(5)]
        missed, next_call = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"\nSIGKILL to WorkerDied {missed * 1e3:.0f} ms, next call {next_call:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
