"""Loading: progress from 0 to 1, and cancelling that leaves nothing behind."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import smallmodels
from rich.console import Console

from edge_llama import LoadCancelledError, Model
from edge_llama.cli import console, loadbar
from edge_llama.readahead import read_ahead

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.gguf"
    path.write_bytes(smallmodels.small_llama().to_bytes())
    return path


def mappings(path: Path) -> int:
    """How often this process maps the file."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs Linux's /proc")
    return maps.read_text(encoding="utf-8").count(str(path))


@pytest.mark.parametrize("mmap", [True, False])
def test_progress_goes_from_0_to_1(small: Path, *, mmap: bool) -> None:
    seen: list[float] = []
    with Model.open(small, n_ctx=256, mmap=mmap, on_progress=seen.append) as model:
        assert seen == sorted(seen)
        assert (seen[0], seen[-1]) == (0.0, 1.0)
        assert len(seen) > 10
        told = len(seen)
        model.generate([1, 2])
        assert len(seen) == told  # nobody calls it later


def cancel_at(call: int) -> Callable[[float], object]:
    """A callback that cancels at that call and goes on before, saying so in two ways."""
    calls = iter([*([None, True] * 50)[:call], False])
    return lambda _: next(calls)


@pytest.mark.parametrize("mmap", [True, False])
def test_cancelling_at_any_moment_frees_everything(small: Path, *, mmap: bool) -> None:
    for call in range(23):
        with pytest.raises(LoadCancelledError, match="cancelled"):
            Model.open(small, n_ctx=256, mmap=mmap, on_progress=cancel_at(call))
        assert mappings(small) == 0
    with Model.open(small, n_ctx=256, mmap=mmap):
        assert mappings(small) == mmap
    assert mappings(small) == 0


def test_what_the_callback_raises_ends_the_load(small: Path) -> None:
    def fail(done: float) -> None:
        if done > 0.95:
            raise ValueError("the window\nwas closed")

    with pytest.raises(LoadCancelledError, match=r"ValueError: the window.was closed") as caught:
        Model.open(small, n_ctx=256, on_progress=fail)
    assert isinstance(caught.value.__cause__, ValueError)

    def interrupt(done: float) -> None:
        if done > 0.95:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # Ctrl-C is nobody's typed error
        Model.open(small, n_ctx=256, on_progress=interrupt)
    assert mappings(small) == 0


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="only Linux says what is cached")
def test_a_file_that_is_not_cached_is_read_with_progress(tmp_path: Path) -> None:
    path = tmp_path / "cold"
    path.write_bytes(os.urandom(2**20) * 33)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            os.preadv(file.fileno(), [bytearray(1)], 32 * 2**20, os.RWF_NOWAIT)
        except BlockingIOError:
            pass
        except OSError:
            pytest.skip("this file system does not say what is cached")
        else:
            pytest.skip("this file system keeps its files in memory")
    seen: list[float] = []
    read_ahead([path], seen.append)
    assert seen == sorted(seen)
    assert len(seen) >= 8
    assert seen[-1] == 1.0
    read_ahead([path], lambda _: pytest.fail("it is cached now"))


def test_the_bar_shows_long_loads_only(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=written, force_terminal=True, width=80))
    with loadbar.load_bar("small.gguf") as bar:
        bar(0.0)
        bar(1.0)
    assert written.getvalue() == ""
    with loadbar.load_bar("small.gguf") as bar:
        time.sleep(loadbar.PATIENCE)
        bar(0.25)
        bar(0.5)
    assert "loading small.gguf" in written.getvalue()
    assert "50%" in written.getvalue()


def test_the_bar_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=written))
    monkeypatch.setattr(loadbar, "PATIENCE", 0.0)
    with loadbar.load_bar("small.gguf") as bar:
        bar(0.5)
    assert written.getvalue() == ""
