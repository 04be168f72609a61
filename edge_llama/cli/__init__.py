"""The command line. ``main`` is the entry point; each command has a file of its own."""

from __future__ import annotations


def main() -> None:
    """Run ``edge-llama``; exits with 0, 1 (error), 2 (wrong usage) or 130 (interrupted)."""
    import sys

    from .app import run

    sys.exit(run())
