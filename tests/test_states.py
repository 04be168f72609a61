"""States on disk: found by prefix, bounded, and never trusted without their checksum."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from edge_llama.states import StateFolder, fingerprint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "states", "a" * 32, max_bytes=1000)


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "states").rglob("*"))


def test_the_longest_common_beginning_wins(folder: StateFolder) -> None:
    folder.save([1, 2, 3, 4], b"four")
    folder.save([1, 2, 9, 9, 9], b"nine")
    stored = folder.find([1, 2, 3, 4, 5, 6])
    assert stored is not None
    assert (stored.common, folder.load(stored)) == (4, b"four")
    other = folder.find([1, 2, 7])
    assert other is not None
    assert other.common == 2
    assert folder.find([7]) is None


def test_a_longer_state_replaces_its_beginnings(folder: StateFolder, tmp_path: Path) -> None:
    folder.save([1, 2], b"short")
    folder.save([1, 2, 3], b"long")
    assert [path.suffix for path in files(tmp_path)] == ["", ".state"]
    stored = folder.find([1, 2])
    assert stored is not None
    assert (stored.common, folder.load(stored)) == (2, b"long")


def test_another_process_finds_it_but_no_other_model(folder: StateFolder, tmp_path: Path) -> None:
    folder.save([5, 6], b"state")
    again = StateFolder(tmp_path / "states", "a" * 32, max_bytes=1000)
    stored = again.find([5, 6, 7])
    assert stored is not None
    assert again.load(stored) == b"state"
    assert StateFolder(tmp_path / "states", "b" * 32, max_bytes=1000).find([5, 6, 7]) is None


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "gone", "head"])
def test_damage_is_noticed_and_removed(folder: StateFolder, tmp_path: Path, damage: str) -> None:
    folder.save(range(8), bytes(range(100)))
    stored = folder.find(range(8))
    assert stored is not None
    data = bytearray(stored.file.path.read_bytes())
    if damage == "flip":
        data[-50] ^= 1
    elif damage == "cut":
        del data[-1:]
    elif damage == "grow":
        data += b"x"
    elif damage == "head":
        data[8] ^= 1  # the number of tokens
    if damage == "gone":
        stored.file.path.unlink()
    else:
        stored.file.path.write_bytes(data)
    if damage != "grow":  # what comes after the end is never read
        assert folder.load(stored) is None
    fresh = StateFolder(tmp_path / "states", "a" * 32, max_bytes=1000)
    assert fresh.find(range(8)) is None
    assert [path.name for path in files(tmp_path)] == ["a" * 32]


def test_the_least_recently_used_go_first(folder: StateFolder, tmp_path: Path) -> None:
    for number in range(3):
        folder.save([number], bytes(250))
        for path in files(tmp_path)[1:]:
            if path.stat().st_mtime_ns > 10**12:
                os.utime(path, ns=(number, number))
    used = folder.find([0])
    assert used is not None
    assert folder.load(used) is not None  # now the newest
    folder.save([3], bytes(250))
    assert [folder.find([n]) is not None for n in range(4)] == [True, False, True, True]
    assert sum(path.stat().st_size for path in files(tmp_path)[1:]) <= 1000


def test_one_that_is_too_large_or_cannot_be_written_is_left_out(
    folder: StateFolder, tmp_path: Path
) -> None:
    assert not folder.save([1], bytes(2000))
    (tmp_path / "states").write_text("a file where the folder should be")
    assert not folder.save([1], b"state")
    assert folder.find([1]) is None


def test_the_fingerprint_tells_files_and_settings_apart(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(bytes(10**6))
    os.utime(model, ns=(1, 1))
    first = fingerprint([model], {"kv_type": "f16"})
    assert first == fingerprint([model], {"kv_type": "f16"})
    assert first != fingerprint([model], {"kv_type": "q8_0"})
    data = bytearray(10**6)
    data[500_000] = 1  # other weights of the same shape
    model.write_bytes(data)
    os.utime(model, ns=(1, 1))
    assert first != fingerprint([model], {"kv_type": "f16"})
