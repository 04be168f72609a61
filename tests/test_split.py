"""Models in several files: opened as one, and mistakes with them named."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import ggufs
import pytest
import smallmodels

from edge_llama import Model, ModelFileError, Sampling, find_model, inspect

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RunCLI

GREEDY = Sampling(temperature=0, max_tokens=8)


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """The small model in three files, of 1, 5 and all other tensors."""
    model = smallmodels.small_llama()
    cut = ggufs.split(model, [1, 5, len(model.tensors) - 6])
    return ggufs.write_parts(tmp_path, "small", cut)


def test_the_parts_are_one_model(tmp_path: Path, parts: list[Path]) -> None:
    whole = tmp_path / "whole.gguf"
    whole.write_bytes(smallmodels.small_llama().to_bytes())
    one, three = inspect(whole), inspect(parts[0])
    assert three.parts == tuple(parts)
    assert three.nbytes == sum(path.stat().st_size for path in parts)
    assert three.n_parameters == one.n_parameters
    assert three.bytes_by_type == one.bytes_by_type
    assert three.hparams == one.hparams
    assert [tensor.part for tensor in three.tensors] == [0] + [1] * 5 + [2] * (len(one.tensors) - 6)
    assert sum(three.bytes_by_part) == sum(one.bytes_by_part)
    answers = []
    for path in (whole, parts[0]):
        with Model.open(path, n_ctx=256) as model:
            answers.append(model.generate("moon", sampling=GREEDY, raw=True).tokens)
    assert answers[0] == answers[1]


def test_a_first_part_without_tensors(tmp_path: Path) -> None:
    model = smallmodels.small_llama()
    paths = ggufs.write_parts(tmp_path, "x", ggufs.split(model, [0, len(model.tensors)]))
    with Model.open(paths[0], n_ctx=256) as opened:
        assert opened.generate("moon", sampling=GREEDY, raw=True).tokens
    assert inspect(paths[0]).bytes_by_part[0] == 0


def test_the_command_line_finds_and_shows_them(
    tmp_path: Path, parts: list[Path], run_cli: RunCLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    for path in parts:
        shutil.move(path, tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    assert find_model("small").name == parts[0].name
    run = run_cli("inspect", "small", "--json")
    assert json.loads(run.stdout)["parts"] == 3
    wrong = run_cli("inspect", "smaller")
    assert "There is: small." in wrong.stderr


def test_a_later_part_says_which_file_to_open(parts: list[Path]) -> None:
    with pytest.raises(ModelFileError, match="part 2 of 3") as caught:
        Model.open(parts[1])
    assert str(parts[0]) in caught.value.hint


def test_a_missing_part_is_named(parts: list[Path]) -> None:
    parts[2].unlink()
    with pytest.raises(ModelFileError, match=r"small-00003-of-00003\.gguf: part 3 of 3 is miss"):
        inspect(parts[0])


def test_parts_in_each_other_s_place(parts: list[Path]) -> None:
    second, third = parts[1].read_bytes(), parts[2].read_bytes()
    parts[1].write_bytes(third)
    parts[2].write_bytes(second)
    with pytest.raises(ModelFileError, match=r"00002-of-00003.*holds part 3 of 3"):
        inspect(parts[0])


def test_a_damaged_part_is_named(parts: list[Path]) -> None:
    parts[1].write_bytes(parts[1].read_bytes()[:-64])
    with pytest.raises(ModelFileError, match=r"00002-of-00003\.gguf: truncated"):
        inspect(parts[0])


def test_parts_of_different_models(tmp_path: Path, parts: list[Path]) -> None:
    other = smallmodels.small_llama()
    n_tensors = len(other.tensors)
    (tmp_path / "other").mkdir()

    def mix(counts: list[int], n_tensors: int) -> None:
        cut = ggufs.split(other, counts, n_tensors=n_tensors)
        paths = ggufs.write_parts(tmp_path / "other", "small", cut)
        shutil.copy(paths[1], parts[1])

    mix([1, 4, n_tensors - 5], n_tensors + 3)
    with pytest.raises(ModelFileError, match=r"00002-of-00003.* of a model of 24 tensors"):
        inspect(parts[0])
    mix([0, 6, n_tensors - 6], n_tensors)  # its first tensor is that of the first part
    with pytest.raises(ModelFileError, match="hold 22 tensors of 21 names; 21 were expected"):
        inspect(parts[0])
    mix([1, 4, n_tensors - 5], n_tensors)
    with pytest.raises(ModelFileError, match="hold 20 tensors"):
        inspect(parts[0])


def test_a_renamed_first_part_says_what_its_name_was(parts: list[Path], tmp_path: Path) -> None:
    renamed = parts[0].rename(tmp_path / "model.gguf")
    with pytest.raises(ModelFileError, match="first of 3 parts") as caught:
        inspect(renamed)
    assert "NAME-00001-of-00003.gguf" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "kind", "value", "message"),
    [
        ("split.no", "u32", 1, "split.no is u32, not u16"),  # llama.cpp asserts it
        ("split.no", "u16", 7, "part 8 of 3"),
        ("split.count", "u16", 0, "holds part 2 of 0|part 2 of 0"),
        ("split.tensors.count", "u16", 7, "split.tensors.count is u16, not i32"),
    ],
)
def test_keys_of_a_part_that_make_no_sense(
    parts: list[Path], key: str, kind: str, value: int, message: str
) -> None:
    part = ggufs.read(parts[1])
    part.set(key, kind, value)
    parts[1].write_bytes(part.to_bytes())
    with pytest.raises(ModelFileError, match=message) as caught:
        inspect(parts[0])
    assert str(parts[1]) in str(caught.value)
