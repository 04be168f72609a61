"""Waiting in an event loop for what happens in a thread, without a thread that waits."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def until_called(
    subscribe: Callable[[Callable[[], object]], None], on_cancel: Callable[[], object]
) -> None:
    """Wait until the callback that ``subscribe`` is given has been called, in any thread.

    ``on_cancel`` is called when the task is cancelled meanwhile.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    subscribe(lambda: _settle(loop, future, lambda: future.set_result(None)))
    try:
        await future
    except asyncio.CancelledError:
        on_cancel()
        raise


async def in_thread(call: Callable[[], T]) -> T:
    """Run ``call`` in a thread of its own, and return or raise what it does.

    Not in the loop's executor: its few threads may all be taken by callers that wait for a model.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - raised by the one who waits
            fault = error
            _settle(loop, future, lambda: future.set_exception(fault))
        else:
            _settle(loop, future, lambda: future.set_result(result))

    threading.Thread(target=run, name="edge-llama-call", daemon=True).start()
    return await future


def _settle(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], settle: Callable[[], object]
) -> None:
    def unless_done() -> None:
        if not future.done():
            settle()

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(unless_done)
