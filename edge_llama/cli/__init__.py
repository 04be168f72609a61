"""The command line. ``main`` is the entry point; each command has a file of its own."""

from __future__ import annotations

#: New objects after which Python looks for cycles: more than a conversion of 49k tokens makes.
_COLLECT_AFTER = 150_000


def main() -> None:
    """Run ``edge-llama``; exits with 0, 1 (error), 2 (wrong usage) or 130 (interrupted)."""
    import gc
    import os
    import sys

    # A command lives for a moment: what it imports and reads stays in use until the end. Looking
    # for cycles among it, at the end once more, took a tenth of a conversion.
    gc.set_threshold(_COLLECT_AFTER)
    # numpy's BLAS starts a thread per core that spins; only a verification multiplies matrices,
    # and its threads and llama.cpp's get in each other's way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from .app import run

    code = run()
    gc.freeze()
    sys.exit(code)
