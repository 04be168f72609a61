"""The API in an event loop: it never waits, whatever the model does."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import threading
import time
from typing import TYPE_CHECKING

import pytest

from edge_llama import AsyncStream, ContextOverflowError, Grammar, Model, Sampling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.model

SHORT = Sampling(temperature=0, max_tokens=6)
ENDLESS = Sampling(max_tokens=1500)
LONG = "word " * 1900  # 2,000 tokens
BEAT = 0.005


@pytest.fixture(scope="module", params=[False, True], ids=["in-process", "isolated"])
def any_model(request: pytest.FixtureRequest, embedded: Path) -> Iterator[Model]:
    with Model.open(embedded, n_ctx=4096, isolate=request.param) as model:
        yield model


class Stalls:
    """What the machine itself does to a thread that only sleeps, in C and without the GIL.

    ``usleep`` in one long ctypes call per beat: its lateness is the machine's, not Python's.
    """

    def __init__(self) -> None:
        self.late: list[tuple[float, float]] = []
        self._go_on = True
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        libc = ctypes.CDLL(None)
        before = ctypes.c_longlong * 2
        clock = libc.clock_gettime
        start, end = before(), before()
        while self._go_on:
            clock(1, start)
            libc.usleep(int(BEAT * 1e6))
            clock(1, end)
            begun, ended = (one[0] + one[1] * 1e-9 for one in (start, end))
            if ended - begun > 3 * BEAT:
                self.late.append((begun, ended))

    def __enter__(self) -> Stalls:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._go_on = False
        self._thread.join()

    def within(self, begun: float, ended: float) -> float:
        """Seconds of stalls between two moments."""
        return sum(max(0.0, min(ended, b) - max(begun, a)) for a, b in self.late)


async def heartbeat(late: list[tuple[float, float]]) -> None:
    while True:
        begun = time.monotonic()
        await asyncio.sleep(BEAT)
        late.append((begun, time.monotonic()))


def worst_beat(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Return how late the heartbeat was at most: as it was, and without the machine's stalls."""
    beats: list[tuple[float, float]] = []

    async def run() -> None:
        task = asyncio.create_task(heartbeat(beats))
        await work()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    with Stalls() as stalls:
        asyncio.run(run())
    raw = [ended - begun - BEAT for begun, ended in beats]
    own = [ended - begun - BEAT - stalls.within(begun, ended) for begun, ended in beats]
    return max(raw), max(own)


def test_the_heartbeat_goes_on_while_a_prompt_is_read_and_answered(
    any_model: Model, record_property: Callable[[str, object], None]
) -> None:
    any_model.generate("Hello", sampling=SHORT)

    async def work() -> None:
        stream = any_model.astream(LONG, sampling=Sampling(temperature=0, max_tokens=24))
        assert "".join([text async for text in stream])
        reply = await stream.reply()
        assert reply.prompt_tokens > 1900
        assert reply.cached_tokens < 50

    figures = [worst_beat(work)]
    while figures[-1][1] > 0.05 and len(figures) < 3:  # a busy machine stalls threads by turns
        any_model.generate([7] * 2100, sampling=Sampling(max_tokens=1))  # another prompt's cache
        figures.append(worst_beat(work))
    record_property("heartbeat", figures)
    assert min(own for _, own in figures) < 0.05, figures


def test_many_streams_need_no_thread_each(any_model: Model) -> None:
    """More of them than the default executor has threads, while that is taken altogether."""
    expected = any_model.generate("List the planets.", sampling=SHORT).text
    blocked = threading.Event()

    async def run() -> list[str]:
        loop = asyncio.get_running_loop()
        taken = [loop.run_in_executor(None, blocked.wait) for _ in range(40)]
        chat = any_model.chat(system="Be brief.", sampling=SHORT)
        answers = [any_model.agenerate("List the planets.", sampling=SHORT) for _ in range(12)]
        texts = [reply.text for reply in await asyncio.gather(*answers)]
        threads = threading.active_count()
        both = await any_model.agenerate("Say a word.", n=2, sampling=SHORT)
        assert len(both) == 2
        assert threading.active_count() <= threads
        said = [text async for text in chat.astream("Name a colour.")]
        assert chat.messages[-1].content == "".join(said)
        assert (await chat.asend("Another?")).text == chat.messages[-1].content
        mood = Grammar.choice("calm", "tense")
        assert (await any_model.agenerate("Mood?", grammar=mood)).parse() in {"calm", "tense"}
        blocked.set()
        await asyncio.gather(*taken)
        return texts

    assert asyncio.run(run()) == [expected] * 12


def test_a_cancelled_task_cancels_its_generation_at_once(any_model: Model) -> None:
    async def run(prompt: str, wait: float) -> float:
        stream = any_model.astream(prompt, sampling=ENDLESS)

        async def read() -> None:
            async for _ in stream:
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(wait)
        asked = time.perf_counter()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await stream.reply()).finish_reason == "cancelled"
        delay = time.perf_counter() - asked
        assert (await any_model.agenerate("Hello", sampling=SHORT)).text
        return delay

    for prompt in (LONG, "Write a long story."):
        assert min(asyncio.run(run(f"{i} {prompt}", 0.5)) for i in range(3)) < 0.1


def test_a_stream_may_be_cancelled_before_it_begins_and_errors_are_raised(
    any_model: Model,
) -> None:
    async def run() -> None:
        stream = any_model.astream("Hello", sampling=ENDLESS)
        stream.cancel()
        assert [text async for text in stream] == []
        assert (await stream.reply()).finish_reason == "cancelled"
        async with any_model.astream("word " * 5000) as long:
            for _ in range(2):
                with pytest.raises(ContextOverflowError):
                    await long.reply()
        async with any_model.astream("Write a long story.", sampling=ENDLESS) as left:
            assert isinstance(left, AsyncStream)
            async for _ in left:
                break
        assert (await left.reply()).finish_reason == "cancelled"
        reading = asyncio.create_task(any_model.agenerate("Hi", sampling=ENDLESS))
        await asyncio.sleep(0)  # it has not begun yet
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(run())
