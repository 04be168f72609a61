"""What the user is told before a file is written that differs from the original model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import builders
import pytest

from edge_llama_convert import plan

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
DYNAMIC = {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"sliding_window": 32}, None),  # LLaMA has none
        ({**MISTRAL, "sliding_window": None}, None),
        ({**MISTRAL, "sliding_window": 8192}, None),  # as wide as the context
        ({**MISTRAL, "sliding_window": 4096}, "keep the context within 4,096 tokens"),
        (MISTRAL, "sliding window of 4,096 tokens"),  # transformers' default
        (DYNAMIC, "dynamic rope scaling is not carried over"),
    ],
)
def test_where_llama_cpp_computes_otherwise(
    tmp_path: Path, changes: dict[str, Any], expected: str | None
) -> None:
    notes = plan(builders.build_tiny_checkpoint(tmp_path / "x", changes=changes)).notes
    assert [expected in note for note in notes if expected] == [True] * bool(expected)
    assert len(notes) == bool(expected)


def test_notes_are_shown(
    run_cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    source = str(builders.build_tiny_checkpoint(tmp_path / "x", changes=DYNAMIC))
    assert "note: dynamic rope" in run_cli("convert", source, "--dry-run").stderr
    shown = run_cli("convert", source, "--dry-run", "--json")
    assert "8,192 tokens" in json.loads(shown.stdout)["notes"][0]
    assert shown.stderr == ""
    assert "note: dynamic rope" in run_cli("convert", source).stderr
