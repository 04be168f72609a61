"""Personas: what is saved comes back, and a file that people edit is checked like an option."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_llama import HistoryError, Sampling, personas
from edge_llama.personas import Persona

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_LLAMA_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "persona",
    [
        Persona(),
        Persona(system="One line.", model="some.gguf", schema="s.json"),
        Persona(
            system="Two\nlines.",
            sampling=Sampling(
                temperature=0,
                stop=("a", "b"),
                logit_bias={28: -1.5, " x": 2.0},
                samplers=("top-k",),
            ),
        ),
    ],
)
def test_what_is_saved_comes_back(persona: Persona) -> None:
    path = personas.save("pirate-1", persona)
    assert personas.load("pirate-1") == persona
    assert personas.names() == ["pirate-1"]
    assert list(path.parent.iterdir()) == [path]
    personas.delete("pirate-1")
    with pytest.raises(HistoryError, match="pirate-1"):
        personas.load("pirate-1")
    with pytest.raises(HistoryError, match="pirate-1"):
        personas.delete("pirate-1")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65, "a\nb", "C:x"])
def test_names_that_could_be_paths(name: str) -> None:
    for use in (personas.load, personas.delete, lambda name: personas.save(name, Persona())):
        with pytest.raises(HistoryError, match="is no name"):
            use(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "JSON object"),
        ('{"sytem": "x"}', "unknown key 'sytem'"),
        ('{"system": 3}', "system is not a text"),
        ('{"schema": {}}', "schema is not a text"),
        ('{"sampling": {"temperature": -1}}', "temperature = -1 is not possible"),
        ('{"sampling": {"heat": 1}}', "unknown option 'heat'"),
        ('{"sampling": {"stop": [[1]]}}', "stop"),
        ('{"sampling": 3}', "sampling is not an object"),
    ],
)
def test_a_file_that_is_wrong_is_named(text: str, message: str) -> None:
    path = personas.save("x", Persona())
    path.write_text(text, encoding="utf-8")
    with pytest.raises(HistoryError, match=message) as caught:
        personas.load("x")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value) + caught.value.hint
