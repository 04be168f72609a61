"""Compare our greedy answers with llama-completion's: same file, same template, same settings.

    python benchmarks/identical_answers.py MODEL.gguf --tools BIN

Exit code 1 when a text differs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from edge_llama import Model, Sampling

PROMPTS = [
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "Explain in two sentences why the sky is blue.",
    "List five fruits.",
    "Translate to German: good morning",
]
CONTEXT = 2048
GREEDY = ("--temp", "0", "--seed", "1")


def llama_completion(
    tools: Path, model: Path, prompt: str, n_tokens: int, sampling: tuple[str, ...] = GREEDY
) -> str:
    """Return llama-completion's answer to one chat message."""
    run = subprocess.run(
        [
            *(tools / "llama-completion", "-m", model, "-p", prompt, "-n", str(n_tokens)),
            *("-cnv", "-st", "--jinja", "-c", str(CONTEXT), *sampling),
            *("--no-display-prompt", "--no-repack", "-fa", "off"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=600,
    )
    text = run.stdout.decode("utf-8", errors="replace")
    return text.rstrip("\n").removesuffix(" [end of text]")


def main() -> int:
    """Compare every prompt's answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tools", type=Path, required=True, help="folder with llama-completion")
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    sampling = Sampling(temperature=0, seed=1, max_tokens=options.tokens)
    same = 0
    with Model.open(options.model, n_ctx=CONTEXT) as model:
        for prompt in PROMPTS:
            reply = model.generate(prompt, sampling=sampling)
            theirs = llama_completion(options.tools, options.model, prompt, options.tokens)
            equal = reply.text.strip() == theirs.strip()
            same += equal
            print(f"{'same' if equal else 'DIFFERS'}: {prompt} ({reply.completion_tokens} tokens)")
            if not equal:
                print(f"  ours:   {reply.text!r}\n  theirs: {theirs!r}")
    print(f"{same} of {len(PROMPTS)} answers are the same")
    return int(same != len(PROMPTS))


if __name__ == "__main__":
    sys.exit(main())
