"""Compare our sampled answers with llama-completion's: same file, settings and seed, same tokens.

    python benchmarks/identical_sampling.py MODEL.gguf --tools BIN

Exit code 1 when a text differs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from identical_answers import CONTEXT, PROMPTS, llama_completion

from edge_llama import Model, Sampling

#: llama-completion's names of our fields, where they are not the same with dashes.
FLAGS = {
    "temperature": "--temp",
    "typical_p": "--typical",
    "penalty_last_n": "--repeat-last-n",
    "dynatemp_exponent": "--dynatemp-exp",
    "mirostat_tau": "--mirostat-ent",
    "mirostat_eta": "--mirostat-lr",
    "dry_sequence_breakers": "--dry-sequence-breaker",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "temperature 1.0": {"temperature": 1.0, "seed": 7},
    "no filters": {"temperature": 1.2, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
    "top-k": {"temperature": 1.5, "top_k": 5, "top_p": 1.0, "min_p": 0.0, "seed": 4294967294},
    "top-p over all": {"temperature": 1.0, "top_k": 0, "top_p": 0.7},
    "min-p over all": {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "min_p": 0.1},
    "typical": {"temperature": 1.0, "typical_p": 0.5, "top_k": 0},
    "top-n-sigma": {"temperature": 2.0, "top_n_sigma": 1.0},
    "XTC": {"xtc_probability": 0.7, "xtc_threshold": 0.15, "temperature": 1.0},
    "XTC, greedy": {"xtc_probability": 0.5, "temperature": 0.0},
    "penalties": {"repeat_penalty": 1.3, "frequency_penalty": 0.2, "presence_penalty": 0.3},
    "penalties, greedy": {"repeat_penalty": 1.5, "penalty_last_n": 16, "temperature": 0.0},
    "DRY": {"dry_multiplier": 2.0, "dry_allowed_length": 1, "dry_base": 1.5, "temperature": 0.5},
    "DRY, own breakers": {
        "dry_multiplier": 3.0,
        "dry_allowed_length": 1,
        "dry_penalty_last_n": 512,
        "dry_sequence_breakers": ("the", "é"),
        "temperature": 0.0,
    },
    "dynamic temperature": {"dynatemp_range": 0.7, "dynatemp_exponent": 0.5, "temperature": 0.9},
    "mirostat 1": {"mirostat": 1, "mirostat_tau": 4.0, "mirostat_eta": 0.2},
    "mirostat 2": {"mirostat": 2, "mirostat_tau": 3.0, "temperature": 1.1},
    "another order": {"samplers": ("temperature", "min_p", "top_p"), "temperature": 1.3},
    "logit bias": {"logit_bias": ((260, 3.0), (28, -2.5), (30, -100.0)), "temperature": 1.0},
}


def arguments(settings: dict[str, Any]) -> tuple[str, ...]:
    """Return llama-completion's arguments for the fields of a Sampling."""
    words: list[str] = []
    for name, value in settings.items():
        if name == "samplers":
            words += ["--samplers", ";".join(value)]
        elif name == "logit_bias":
            for token, bias in value:
                words += ["--logit-bias", f"{token}{bias:+}"]
        else:
            flag = FLAGS.get(name, f"--{name.replace('_', '-')}")
            for one in value if isinstance(value, tuple) else (value,):
                words += [flag, str(one)]
    return tuple(words)


def main() -> int:
    """Compare every setting's answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tools", type=Path, required=True, help="folder with llama-completion")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--prompts", type=int, default=2, help="how many prompts per setting")
    parser.add_argument("--only", default="", help="settings whose name holds this")
    options = parser.parse_args()
    differing = 0
    with Model.open(options.model, n_ctx=CONTEXT) as model:
        chosen = {name: given for name, given in SETTINGS.items() if options.only in name}
        for title, given in chosen.items():
            settings = {"seed": 42, **given}
            sampling = Sampling(**settings, max_tokens=options.tokens)
            for prompt in PROMPTS[: options.prompts]:
                reply = model.generate(prompt, sampling=sampling)
                theirs = llama_completion(
                    options.tools, options.model, prompt, options.tokens, arguments(settings)
                )
                equal = reply.text.strip() == theirs.strip()
                differing += not equal
                verdict = "same" if equal else "DIFFERS"
                print(f"{verdict}: {title}: {prompt} ({reply.completion_tokens} tokens)")
                if not equal:
                    print(f"  ours:   {reply.text!r}\n  theirs: {theirs!r}")
    print(f"{differing} answers differ")
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
