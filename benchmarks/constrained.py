"""Answers that are kept to a structure: their speed against free text, and against Llama's.

    python benchmarks/constrained.py MODEL.gguf

Greedy, for a few prompts each of a flat record, nested objects, patterns and a choice of 500.
Every round runs, in processes of their own and in another order each: edge-llama with jump-ahead,
edge-llama masking every step, and llama-cpp-python's Llama with llama.cpp's grammar sampler, which
gets the same schema. Each also continues free text. Nothing uses AMX (see ``amx.py``). Shown are
medians over the rounds: tokens per second relative to the engine's own free text, and how long a
finished object takes relative to Llama.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amx import deny_amx
from rounds import run_rounds

if TYPE_CHECKING:
    from collections.abc import Callable

    Figures = dict[str, dict[str, float]]

#: No object of these schemas takes as many tokens.
LIMIT = 160
TEXT = {"type": "string", "maxLength": 40}
WHOLE = {"type": "integer", "minimum": 0, "maximum": 9999}


def record(**properties: Any) -> dict[str, Any]:
    """Return the schema of an object that has all of ``properties`` and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


DAY = r"^[12][0-9]{3}-[01][0-9]-[0-3][0-9]$"
TASKS = {
    "flat record": record(
        name=TEXT, age=WHOLE, city=TEXT, profession=TEXT, married={"type": "boolean"}
    ),
    "nested": record(
        person=record(name=record(first=TEXT, last=TEXT), born=record(year=WHOLE, place=TEXT)),
        address=record(street=TEXT, city=TEXT, country=record(name=TEXT, code=TEXT)),
    ),
    "patterns": record(
        date={"type": "string", "pattern": DAY},
        phone={"type": "string", "pattern": r"^\+[0-9]{2} [0-9]{3} [0-9]{6}$"},
        order={"type": "string", "pattern": "^ORD-[A-Z]{3}-[0-9]{5}$"},
    ),
    "choice of 500": record(
        answer={"enum": [f"category number {i * 37 % 1000:03}" for i in range(500)]}
    ),
}
PROMPTS = (
    "Invent a person who lives by the sea and answer in JSON.",
    "Answer in JSON: what do you know about Marie Curie?",
    "Extract the data as JSON: Bob Miller, 42, a baker from Leeds, wrote on 3 May.",
)
FREE = "Tell me a story about a village by the sea."


def edge_llama(options: argparse.Namespace) -> Figures:
    """Measure our own engine with jump-ahead."""
    return _edge_llama(options, jump_ahead=True)


def step_by_step(options: argparse.Namespace) -> Figures:
    """Measure our own engine, which masks every step."""
    return _edge_llama(options, jump_ahead=False)


def _edge_llama(options: argparse.Namespace, *, jump_ahead: bool) -> Figures:
    from edge_llama import Grammar, Model, Sampling

    sampling = Sampling(temperature=0, max_tokens=LIMIT, jump_ahead=jump_ahead)
    with Model.open(options.model, n_ctx=1024, threads=options.threads) as model:

        def answer(prompt: str, schema: dict[str, Any] | None) -> tuple[int, float]:
            grammar = None if schema is None else Grammar.json_schema(schema)
            started = time.perf_counter()
            reply = model.generate(prompt, grammar=grammar, sampling=sampling)
            seconds = time.perf_counter() - started - reply.prefill_seconds
            return reply.completion_tokens, seconds

        return run(answer)


def llama_cpp_python(options: argparse.Namespace) -> Figures:
    """Measure llama-cpp-python's own class."""
    from llama_cpp import Llama
    from llama_cpp.llama_grammar import LlamaGrammar

    model = Llama(str(options.model), n_ctx=1024, n_threads=options.threads, verbose=False)

    def answer(prompt: str, schema: dict[str, Any] | None) -> tuple[int, float]:
        grammar = None
        if schema is not None:
            grammar = LlamaGrammar.from_json_schema(json.dumps(schema), verbose=False)
        chunks: Any = model.create_chat_completion(
            [{"role": "user", "content": prompt}],
            grammar=grammar,
            max_tokens=LIMIT,
            temperature=0,
            stream=True,
        )
        times = [
            time.perf_counter() for chunk in chunks if chunk["choices"][0]["delta"].get("content")
        ]
        return len(times), times[-1] - times[0]

    return run(answer)


def run(answer: Callable[[str, dict[str, Any] | None], tuple[int, float]]) -> Figures:
    """Return tokens per second and seconds per object of each task, and of free text."""
    answer(FREE, None)
    figures = {}
    for name, schema in {**TASKS, "free": None}.items():
        prompts = (FREE,) if schema is None else PROMPTS
        answer(prompts[0], schema)  # compiled once; compiling is not what is measured
        counts, times = zip(*(answer(prompt, schema) for prompt in prompts), strict=True)
        figures[name] = {"speed": sum(counts) / sum(times), "seconds": statistics.mean(times)}
    return figures


ENGINES: dict[str, Callable[[argparse.Namespace], Figures]] = {
    "edge-llama": edge_llama,
    "step by step": step_by_step,
    "Llama": llama_cpp_python,
}


def main() -> int:
    """Print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        deny_amx()
        json.dump(ENGINES[options.engine](options), sys.stdout)
        return 0
    rounds: list[dict[str, Figures]] = run_rounds(ENGINES, options.rounds)
    print(f"{'':14}" + "".join(f"{engine:>14}" for engine in ENGINES) + f"{'object, x':>14}")
    for task in TASKS:
        own = [
            statistics.median(
                one[engine][task]["speed"] / one[engine]["free"]["speed"] for one in rounds
            )
            for engine in ENGINES
        ]
        sooner = statistics.median(
            one["Llama"][task]["seconds"] / one["edge-llama"][task]["seconds"] for one in rounds
        )
        print(f"{task:14}" + "".join(f"{ratio:14.2f}" for ratio in own) + f"{sooner:14.2f}")
    free = [statistics.median(one[engine]["free"]["speed"] for one in rounds) for engine in ENGINES]
    print(f"{'free, tokens/s':14}" + "".join(f"{speed:14.1f}" for speed in free))
    return 0


if __name__ == "__main__":
    sys.exit(main())
