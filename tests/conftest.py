"""Shared fixtures: the real model, checkpoints built from it, and a running CLI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the builders

import builders

from edge_llama import Model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    RunCLI = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def embedded() -> Path:
    return builders.embedded_gguf()


@pytest.fixture(scope="session")
def real_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct as a Hugging Face checkpoint; the folder's name is the model's."""
    return builders.build_real_checkpoint(tmp_path_factory.mktemp("real") / "hf")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builders.build_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny")


@pytest.fixture(scope="session")
def model(embedded: Path) -> Iterator[Model]:
    """The embedded model, open; tests leave nothing running on it."""
    with Model.open(embedded, n_ctx=2048) as model:
        yield model


@pytest.fixture
def run_cli(tmp_path: Path) -> RunCLI:
    """Run ``edge-llama`` as a process of its own, in an empty folder."""

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge_llama", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=tmp_path,
            env={
                **os.environ,
                "NO_COLOR": "1",
                "COLUMNS": "200",
                "EDGE_LLAMA_HOME": str(tmp_path / "home"),
            },
            timeout=300,
            check=False,
        )

    return run
