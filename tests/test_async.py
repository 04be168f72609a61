"""The API in an event loop: it never waits, whatever the model does."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from endless import ENDLESS

from edge_llama import AsyncStream, ContextOverflowError, Grammar, Model, Sampling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

pytestmark = pytest.mark.model

SHORT = Sampling(temperature=0, max_tokens=6)
LONG = "word " * 1900  # 2,000 tokens
BEAT = 0.005


@pytest.fixture(scope="module", params=[False, True], ids=["in-process", "isolated"])
def any_model(request: pytest.FixtureRequest, embedded: Path) -> Iterator[Model]:
    with Model.open(embedded, n_ctx=4096, isolate=request.param) as model:
        yield model


def machine_delay() -> float:
    """Seconds in which the Python threads of this process were ready and no core was free.

    On a busy machine the event loop waits for a core, and so does whoever holds the GIL; neither
    is the model's doing. (The second field of schedstat; threads of OpenMP are not Python's.)
    """
    total = 0
    for thread in threading.enumerate():
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text()
            total += int(stat.split()[1])
    return total * 1e-9


class Beats(NamedTuple):
    """How late the heartbeat of an event loop was at most, in seconds.

    ``own`` is without what the machine is to blame for.
    """

    worst: float
    own: float


def heartbeat_during(work: Callable[[], Awaitable[object]]) -> Beats:
    raw: list[float] = []
    own: list[float] = []

    async def beat() -> None:
        while True:
            begun, delay = time.monotonic(), machine_delay()
            await asyncio.sleep(BEAT)
            raw.append(time.monotonic() - begun - BEAT)
            own.append(raw[-1] - (machine_delay() - delay))

    async def run() -> None:
        task = asyncio.create_task(beat())
        await work()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
    return Beats(max(raw), max(own))


def test_the_heartbeat_goes_on_while_a_prompt_is_read_and_answered(
    any_model: Model, record_property: Callable[[str, object], None]
) -> None:
    async def work() -> None:
        prompt = f"{len(figures)} {LONG}"
        stream = any_model.astream(prompt, sampling=Sampling(temperature=0, max_tokens=24))
        assert "".join([text async for text in stream])
        reply = await stream.reply()
        assert reply.prompt_tokens - reply.cached_tokens > 1900

    figures: list[Beats] = []
    while not figures or (figures[-1].own > 0.05 and len(figures) < 3):
        figures.append(heartbeat_during(work))
    record_property("heartbeat", figures)
    assert figures[-1].own < 0.05, figures


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
