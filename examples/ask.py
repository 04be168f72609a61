"""The smallest program: python examples/ask.py "Why is the sky blue?"."""

from __future__ import annotations

import sys

from edge_llama import EdgeLlamaError, Model, Sampling, find_model


def main() -> str | None:
    """Answer the question; return what went wrong, for ``sys.exit`` to print."""
    try:
        with Model.open(find_model()) as model:
            # Without a limit a small model may ramble on for as long as it likes.
            for text in model.stream(" ".join(sys.argv[1:]), sampling=Sampling(max_tokens=200)):
                sys.stdout.write(text)
                sys.stdout.flush()
    except EdgeLlamaError as error:
        return f"{error}. {error.hint}"
    return None


if __name__ == "__main__":
    sys.exit(main())
