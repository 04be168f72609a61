"""A stream for event loops, which begins in a thread: reading a prompt takes time too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .waiting import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .generate import Reply
    from .stream import Stream


class AsyncStream:
    """The text of a generation that begins when it is first awaited; ``async for`` over it.

    No method blocks the event loop. Errors of beginning are raised by what is awaited first. A
    task that is cancelled while it waits cancels the generation; ``async with`` ends it at the
    end of the block, whatever happens there.
    """

    def __init__(self, begin: Callable[[], Stream]) -> None:
        self._begin = begin
        self._begun: asyncio.Future[Stream] | None = None
        self._cancelled = False

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> str:
        stream = await self._stream()
        return await stream.__anext__()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cancel()

    def cancel(self) -> None:
        """End the generation, or see that it ends as soon as it begins; from any thread."""
        self._cancelled = True
        begun = self._begun
        if begun is not None and begun.done() and not begun.cancelled() and not begun.exception():
            begun.result().cancel()

    async def reply(self) -> Reply:
        """Return the finished reply; raises what went wrong."""
        return await (await self._stream()).areply()

    async def _stream(self) -> Stream:
        if self._begun is None:
            self._begun = asyncio.ensure_future(in_thread(self._begin))
        # Shielded, because several tasks may wait, of which one may be cancelled.
        try:
            stream = await asyncio.shield(self._begun)
        except asyncio.CancelledError:
            self._cancelled = True
            self._begun.add_done_callback(_cancel)
            raise
        if self._cancelled:
            stream.cancel()
        return stream


def _cancel(begun: asyncio.Future[Stream]) -> None:
    if not begun.cancelled() and not begun.exception():
        begun.result().cancel()
