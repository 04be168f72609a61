"""Runs in a bundle before the application: a model's worker is the application, started again."""

from __future__ import annotations

import sys

# worker.spawn.FROZEN_FLAG, which is not imported for nothing
if sys.argv[1:2] == ["--edge-llama-worker"]:
    from edge_llama.worker import freeze_support

    freeze_support()
