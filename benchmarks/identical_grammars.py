"""The grammars that llama.cpp ships, walked at random: our masks against its own, token by token.

    python benchmarks/identical_grammars.py LLAMA_CPP/grammars MODEL.gguf [--steps N]

Tokens that are no text on their own (parts of characters, control tokens) are left out: llama.cpp
judges invalid UTF-8 by chance. Prints a line per grammar; exits with 1 where a mask differs.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from test_grammar_gbnf import NativeVocabulary, Peer, is_text

from edge_llama.grammar import Grammar, compile_grammar


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("grammars", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    vocabulary = NativeVocabulary(options.model)
    count = vocabulary.n_vocab
    text = np.array([is_text(vocabulary.spelling(token)) for token in range(count)])
    text &= ~np.array([vocabulary.is_control(token) for token in range(count)])
    compared = text | np.isin(np.arange(count), vocabulary.end_tokens)
    failed = False
    for path in sorted(options.grammars.glob("*.gbnf")):
        source = path.read_text(encoding="utf-8")
        compiled = compile_grammar(Grammar.gbnf(source), vocabulary)
        peer, matcher = Peer(vocabulary, source), compiled.matcher(forcing=False)
        rng = np.random.default_rng(1)
        ours_s = theirs_s = 0.0
        differing = steps = 0
        for _ in range(options.steps):
            logits = np.zeros(count, np.float32)
            begun = time.perf_counter()
            matcher.mask(logits)
            middle = time.perf_counter()
            theirs = peer.allowed()
            ours_s += middle - begun
            theirs_s += time.perf_counter() - middle
            steps += 1
            ours = np.isfinite(logits)
            differing += int(((ours != theirs) & compared).sum())
            likely = np.flatnonzero(ours & theirs & text)
            if not likely.size:
                break
            token = int(rng.choice(likely))
            matcher.push([token])
            peer.accept(token)
        peer.close()
        failed |= differing > 0
        print(
            f"{path.name:20} {steps:3} masks, {differing} tokens differ, "
            f"ms per mask {1e3 * ours_s / steps:7.2f} (llama.cpp {1e3 * theirs_s / steps:7.2f})"
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
