"""The first token of a conversation that another process had, restored from disk or read anew.

    python benchmarks/resume.py [MODEL.gguf] [--tokens 2000] [--rounds 5] [--kv-type f16]

One process reads the conversation and leaves its state in a folder. Then processes of their own
ask the next question, in turns with that folder and with none; the clock runs from the question
to the first text. Both must give the same answer. Exit code 1 when they do not.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from edge_llama import Model, Sampling, find_model
from edge_llama.reading import Reading

TURN = (
    "<|im_start|>user\nTell me something about the number {0}, please.<|im_end|>\n"
    "<|im_start|>assistant\n{0} comes after {1}, and {2} after it. Twice {0} is {3}.<|im_end|>\n"
)
QUESTION = (
    "<|im_start|>user\nWhich number did we talk about first, and why?<|im_end|>\n"
    "<|im_start|>assistant\n"
)


@dataclass(frozen=True)
class Run:
    """What one process found; times in seconds."""

    open: float
    first: float
    tokens: int
    cached: int
    answer: str


def conversation(path: Path, n_tokens: int) -> str:
    """Return a conversation of at least so many tokens."""
    text = ""
    with Reading(path) as reading:
        for number in count(1):
            text += TURN.format(number, number - 1, number + 1, 2 * number)
            if len(reading.tokenize(text)) >= n_tokens:
                return text
    raise AssertionError


def ask(path: str, prompt: str, kv_type: str, folder: str | None) -> Run:
    """Open the model, and time the first text of the answer."""
    started = time.perf_counter()
    with Model.open(path, n_ctx=4096, kv_type=kv_type, state_dir=folder) as model:
        opened = time.perf_counter()
        sampling = Sampling(temperature=0, max_tokens=8)
        stream = model.stream(prompt, raw=True, sampling=sampling)
        answer = next(stream, "")
        first = time.perf_counter() - opened
        answer += "".join(stream)
        reply = stream.reply
    return Run(opened - started, first, reply.prompt_tokens, reply.cached_tokens, answer)


def elsewhere(*arguments: str | None) -> Run:
    """Do :func:`ask` in another process."""
    command = [sys.executable, __file__, "--ask", json.dumps(arguments)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Run(**json.loads(output))


def compare(options: argparse.Namespace) -> int:
    """Print a table."""
    path = find_model(options.model)
    past = conversation(path, options.tokens)
    runs: dict[str, list[Run]] = {"restored": [], "read anew": []}
    with tempfile.TemporaryDirectory() as scratch:
        kept, folder = Path(scratch) / "kept", Path(scratch) / "states"
        elsewhere(str(path), past, options.kv_type, str(kept))
        size = sum(file.stat().st_size for file in kept.rglob("*.state"))
        for _ in range(options.rounds):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(kept, folder)  # each run leaves a newer state
            for name, place in (("restored", str(folder)), ("read anew", None)):
                run = elsewhere(str(path), past + QUESTION, options.kv_type, place)
                runs[name].append(run)
    print(f"{path.name}, {options.kv_type} cache, state of {size / 1e6:.1f} MB")
    print("| | tokens | of these restored | open, s | first text, s |")
    print("|---|---|---|---|---|")
    for name, found in runs.items():
        opening, first = (statistics.median(getattr(run, key) for run in found) for key in _TIMES)
        run = found[-1]
        print(f"| {name} | {run.tokens} | {run.cached} | {opening:.2f} | {first:.3f} |")
    pairs = zip(*runs.values(), strict=True)
    ratios = [anew.first / restored.first for restored, anew in pairs]
    print(f"first text {statistics.median(ratios):.1f} times sooner ({min(ratios):.1f} at least)")
    answers = {run.answer for found in runs.values() for run in found}
    if len(answers) > 1:
        print(f"the answers differ: {answers}")
    return int(len(answers) > 1)


_TIMES = ("open", "first")


def main() -> int:
    """Compare, or be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", help="a GGUF file; by default the embedded model")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kv-type", default="f16")
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask is None:
        return compare(options)
    print(json.dumps(asdict(ask(*json.loads(options.ask)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
