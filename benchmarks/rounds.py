"""Engines side by side: rounds in which each measures itself in a process of its own."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection


def run_rounds(
    engines: Collection[str], count: int, *, timeout: float | None = None
) -> list[dict[str, Any]]:
    """Run this very command with ``--engine NAME`` for each engine, in another order each round.

    Returns what each of them wrote, as JSON, by its name. ``timeout`` is in seconds, for one.
    """
    draw, rounds = random.Random(count), []  # noqa: S311 - not a secret
    for _ in range(count):
        figures = {}
        for engine in draw.sample(list(engines), len(engines)):
            run = subprocess.run(
                [sys.executable, *sys.argv, "--engine", engine],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=True,
                timeout=timeout,
            )
            figures[engine] = json.loads(run.stdout)
        rounds.append(figures)
    return rounds
