"""States on disk: found by what they begin with, bounded, never trusted without their checksum."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from edge_llama import Model, Sampling
from edge_llama.cache import Gap, History, reusable
from edge_llama.states import StateFolder, TieredStore, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_llama.states import Stored

NAME = "a" * 32


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "states", NAME, max_bytes=1200)


def files(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "states").rglob("*") if path.is_file())


def like(*tokens: int) -> Callable[[History], int]:
    wanted = History(list(tokens))
    return lambda history: reusable(history, wanted, can_shift=False)


def found(folder: StateFolder, *tokens: int) -> Stored:
    stored = folder.find(like(*tokens))
    assert stored is not None
    return stored


def test_the_best_state_is_found_and_comes_back_whole(folder: StateFolder) -> None:
    folder.save(History([1, 2, 3, 4]), b"four")
    folder.save(History([1, 2, 9, 9, 9, 9], Gap(3, 2)), b"gap")
    assert folder.load(found(folder, 1, 2, 3, 4, 5)) == b"four"
    other = found(folder, 1, 2, 9)
    assert (other.tokens, other.gap, other.nbytes) == ([1, 2, 9, 9, 9, 9], Gap(3, 2), 3)
    assert folder.load(other) == b"gap"
    assert folder.find(like(7)) is None


def test_a_longer_state_replaces_its_beginnings(folder: StateFolder, tmp_path: Path) -> None:
    folder.save(History([1, 2]), b"short")
    folder.save(History([1, 2, 3]), b"long")
    assert len(files(tmp_path)) == 1
    assert folder.load(found(folder, 1, 2)) == b"long"


def test_another_process_finds_it_but_no_other_model(folder: StateFolder, tmp_path: Path) -> None:
    folder.save(History([5, 6]), b"state")
    again = StateFolder(tmp_path / "states", NAME, max_bytes=1200)
    assert again.load(found(again, 5, 6, 7)) == b"state"
    other = StateFolder(tmp_path / "states", "b" * 32, max_bytes=1200)
    assert other.find(like(5, 6, 7)) is None


@pytest.mark.parametrize("damage", ["flip", "token", "head", "cut", "gone"])
def test_damage_is_noticed_and_removed(folder: StateFolder, tmp_path: Path, damage: str) -> None:
    folder.save(History(list(range(8))), bytes(range(100)))
    stored = found(folder, *range(8))
    data = bytearray(stored.file.path.read_bytes())
    place = {"flip": -50, "token": -110, "head": 8}.get(damage)
    if place is not None:
        data[place] ^= 1
    elif damage == "cut":
        del data[-1:]
    if damage == "gone":
        stored.file.path.unlink()
    else:
        stored.file.path.write_bytes(data)
    fresh = StateFolder(tmp_path / "states", NAME, max_bytes=1200)  # has not read the head before
    again = fresh.find(like(*range(8)))
    assert again is None or fresh.load(again) is None
    assert folder.load(stored) is None
    assert not files(tmp_path)


def test_the_least_recently_used_go_first(folder: StateFolder, tmp_path: Path) -> None:
    for number in range(3):
        folder.save(History([number]), bytes(250))
        for path in files(tmp_path):
            if path.stat().st_mtime_ns > 10**12:
                os.utime(path, ns=(number, number))
    assert folder.load(found(folder, 0)) is not None  # now the newest
    folder.save(History([3]), bytes(250))
    assert [folder.find(like(n)) is not None for n in range(4)] == [True, False, True, True]
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 1200


def test_one_that_is_too_large_or_cannot_be_written_is_left_out(
    folder: StateFolder, tmp_path: Path
) -> None:
    assert not folder.save(History([1]), bytes(2000))
    (tmp_path / "states").write_text("a file where the folder should be")
    assert not folder.save(History([1]), b"state")
    assert folder.find(like(1)) is None


def test_what_leaves_memory_goes_to_the_folder(folder: StateFolder) -> None:
    store = TieredStore(10, folder)
    store.save(History([1, 1]), 6, lambda: b"first.")
    assert folder.find(like(1)) is None
    store.save(History([2, 2]), 6, lambda: b"second")
    assert folder.load(found(folder, 1)) == b"first."
    store.save(History([3, 3]), 11, lambda: b"large......")
    parked = store.find(like(3))
    assert parked is not None
    assert store.restore(parked) == b"large......"
    stored = store.find(like(1))
    assert stored is not None
    store.save(stored, 6, lambda: pytest.fail("it is in the folder"))
    store.close()
    assert folder.load(found(folder, 2)) == b"second"


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


_SCRIPT = """
import sys
from edge_llama import Model, Sampling
with Model.open(sys.argv[1], n_ctx=1024, state_dir=sys.argv[2]) as model:
    model.generate("word " * 400, raw=True, sampling=Sampling(max_tokens=4, temperature=0))
"""


def test_a_conversation_goes_on_in_another_process(embedded: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _SCRIPT, embedded, tmp_path / "states"], check=True)
    prompt = "word " * 400 + "and"
    greedy = Sampling(max_tokens=6, temperature=0)

    def answer(**options: Any) -> tuple[tuple[int, ...], int, float]:
        with Model.open(embedded, n_ctx=1024, **options) as model:
            reply = model.generate(prompt, raw=True, sampling=greedy)
            return reply.tokens, reply.cached_tokens, reply.prefill_seconds

    tokens, cached, seconds = answer()
    assert cached == 0
    again, reused, resumed = answer(state_dir=str(tmp_path / "states"))
    assert again == tokens
    assert reused >= 400
    assert resumed < seconds / 3
    for options in ({"kv_type": "q8_0"}, {"n_parallel": 2}):  # other settings, other states
        assert answer(state_dir=str(tmp_path / "states"), **options)[1] == 0


_KILLED = """
import os, pathlib, signal, sys, time
from edge_llama import Model, Sampling
model = Model.open(sys.argv[1], n_ctx=1024, state_dir=sys.argv[2])
chat = model.chat(sampling=Sampling(max_tokens=4, temperature=0))
chat.send("word " * 300)
while not list(pathlib.Path(sys.argv[2]).rglob("*.state")):
    time.sleep(0.05)
chat.send("And?")  # grew by too little for another copy
time.sleep(1)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_what_was_read_outlives_a_process_that_is_killed(embedded: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _KILLED, embedded, tmp_path / "states"], check=False, timeout=120
    )
    assert run.returncode == -9
    assert len(files(tmp_path)) == 1
    with Model.open(embedded, n_ctx=1024, state_dir=str(tmp_path / "states")) as model:
        reply = model.chat().send("word " * 300, sampling=Sampling(max_tokens=4, temperature=0))
        assert reply.cached_tokens >= 300
