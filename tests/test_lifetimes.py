"""Opening, closing and leaving, in this process and with a child: nothing stays, nothing hangs."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import smallmodels
from endless import ENDLESS

from edge_llama import Model, Sampling, StateError
from scripts import run_script

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.model

isolate = pytest.mark.parametrize("isolate", [False, True])


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.gguf"
    path.write_bytes(smallmodels.small_llama().to_bytes())
    return path


def output_of(script: str) -> str:
    """Run a script that must end by itself, silently but for what it prints."""
    run = run_script(script)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


ROUNDS = """
    import gc
    from edge_llama import Model, Sampling
    from edge_llama.hardware import resident_memory
    for i in range({rounds}):
        model = Model.open({path!r}, n_ctx=512, isolate={isolate})
        model.generate([1, 2, 3], sampling=Sampling(max_tokens=2))
        inside = resident_memory()
        model.close()
        del model
        gc.collect()
        print(resident_memory(), inside)
"""


def rounds(path: Path, count: int, *, isolate: bool) -> tuple[list[int], list[int]]:
    """Open, use and close a model again and again; return resident bytes after, and while open."""
    out = output_of(ROUNDS.format(path=str(path), rounds=count, isolate=isolate))
    pairs = [line.split() for line in out.splitlines()]
    assert len(pairs) == count
    return [int(after) for after, _ in pairs], [int(inside) for _, inside in pairs]


def test_closing_gives_memory_back(embedded: Path) -> None:
    """Beside the end of the first round, which loads the libraries."""
    after, inside = rounds(embedded, 5, isolate=False)
    assert min(inside) > after[0] + 80e6  # what there is to give back
    assert max(after) < 1.1 * after[0]


@isolate
def test_fifty_rounds_do_not_grow(small: Path, *, isolate: bool) -> None:
    after, _ = rounds(small, 12 if isolate else 50, isolate=isolate)
    assert after[-1] - after[4] < 1e6  # 80 kB per round would fail
    if isolate:
        assert max(after) < 1.1 * after[0]


@isolate
def test_use_after_close_is_named_everywhere(small: Path, *, isolate: bool) -> None:
    model = Model.open(small, n_ctx=256, isolate=isolate)
    chat = model.chat()
    stream = model.stream([1, 2, 3], sampling=Sampling(max_tokens=200))
    next(stream)
    model.close()
    model.close()
    assert stream.reply.finish_reason in {"cancelled", "stop", "length"}
    uses: list[Callable[[], object]] = [
        lambda: model.generate([1, 2, 3]),
        lambda: model.generate([1, 2, 3], n=2),
        lambda: model.generate_many([[1]]),
        lambda: model.stream([1]),
        lambda: model.tokenize("x"),
        lambda: model.detokenize([1]),
        model.memory,
        model.chat,
        lambda: chat.send("x"),
    ]
    for use in uses:
        with pytest.raises(StateError, match="closed"):
            use()
    assert model.plan.n_ctx == model.n_ctx == 256


def test_closing_waits_for_those_who_use_the_vocabulary(small: Path) -> None:
    """llama.cpp would read freed memory."""
    text = "a long text " * 20_000
    for _ in range(5):
        model = Model.open(small, n_ctx=256)
        counts: list[int] = []

        def use(model: Model = model, counts: list[int] = counts) -> None:
            while True:
                try:
                    counts.append(len(model.tokenize(text)))
                except StateError:
                    return

        users = [threading.Thread(target=use) for _ in range(2)]
        for user in users:
            user.start()
        while len(counts) < 4:
            time.sleep(0.001)
        model.close()
        for user in users:
            user.join()
        assert len(set(counts)) == 1


@isolate
def test_a_fork_is_refused_instead_of_hanging(small: Path, *, isolate: bool) -> None:
    out = output_of(f"""
        import os, signal, sys, warnings
        from edge_llama import Model, Sampling, StateError
        warnings.simplefilter("ignore")  # newer Pythons warn of fork as such
        model = Model.open({str(small)!r}, n_ctx=256, isolate={isolate})
        chat = model.chat()
        stream = model.stream([1, 2, 3], sampling=Sampling(max_tokens=200))
        next(stream)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            uses = [
                lambda: model.generate([1, 2, 3]), lambda: model.tokenize("x"), model.memory,
                lambda: chat.send("x"), lambda: list(stream), lambda: stream.reply,
            ]
            if not {isolate}:  # llama.cpp's threads are gone as well
                uses.append(lambda: Model.open({str(small)!r}, n_ctx=256).generate([1]))
            for use in uses:
                try:
                    use()
                except StateError as error:
                    print("fork" in str(error), flush=True)
            stream.cancel()
            model.close()
            sys.exit(0)  # with all finalizers
        assert os.waitpid(child, 0)[1] == 0
        stream.cancel()
        stream.reply
        model.generate([1, 2, 3], sampling=Sampling(max_tokens=2))
        with Model.open({str(small)!r}, n_ctx=256, isolate=True) as other:
            if os.fork() == 0:
                with Model.open({str(small)!r}, n_ctx=256, isolate=True) as own:
                    print(len(own.generate([1], sampling=Sampling(max_tokens=1)).tokens) < 2)
                sys.exit(0)
            assert os.wait()[1] == 0
    """)
    assert out.split() == ["True"] * (7 if isolate else 8)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_a_model_at_rest_keeps_no_threads_that_others_would_have_to_wait_for(
    embedded: Path,
) -> None:
    """OpenMP counts idle threads too: with too many, nobody may wait actively any more."""

    def threads() -> int:
        return sum(1 for _ in Path("/proc/self/task").iterdir())

    with Model.open(embedded, n_ctx=256, threads=3) as model:
        before = threads()
        stream = model.stream("Once upon a time", raw=True, sampling=ENDLESS)
        next(stream)
        assert threads() >= before + 2
        stream.cancel()
        deadline = time.monotonic() + 10
        while threads() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threads() == before
