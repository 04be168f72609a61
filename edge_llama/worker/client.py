"""A model that runs in a child process, and in another one if that dies."""

from __future__ import annotations

import logging
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..delivery import Delivery
from ..errors import StateError
from ..loading import teller
from ..memory import MemoryReceipt
from ..stream import Stream
from .codec import encode
from .link import Link
from .messages import ASK, CLOSE, DETOKENIZE, MEMORY, OPEN, TEMPLATE, TOKENIZE, Ready

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..ask import Ask
    from ..config import ModelConfig
    from ..generate import Reply
    from ..gguf_file import GGUFInfo
    from ..memory import MemoryPlan

logger = logging.getLogger("edge_llama.worker")


class Worker:
    """A supervised child process; see :class:`~edge_llama.runtime.Runtime`.

    Every method raises WorkerDied if the child dies meanwhile.
    """

    def __init__(self, info: GGUFInfo) -> None:
        self._path = Path(info.path).absolute()
        self._lock = threading.Lock()  # who starts a child
        self._link: Link | None = None
        self._ready: Ready | None = None
        self._closed = False

    @classmethod
    def open(
        cls,
        info: GGUFInfo,
        config: ModelConfig,
        on_progress: Callable[[float], object] | None = None,
    ) -> Worker:
        """Start a child and open the model in it; raises as :meth:`Model.open`."""
        worker = cls(info)
        worker._open(config, on_progress)
        return worker

    def _open(
        self, config: ModelConfig, on_progress: Callable[[float], object] | None = None
    ) -> Link:
        link = self._link = Link()
        payload = {"path": str(self._path), "config": encode(config)}
        try:
            if self._closed:
                raise _closed()
            tell = teller(self._path, on_progress)
            self._ready = link.call(OPEN, payload, answer=Ready, tell=tell)
        except BaseException:
            link.kill()
            raise
        return link

    def _live(self) -> Link:
        """Return the link to a child that is alive, after a death a new one."""
        link = self._link
        if link is None or not link.is_alive or self._closed:
            with self._lock:
                link = self._link
                if self._closed:
                    raise _closed()
                if link is None or not link.is_alive:
                    logger.warning("%s: the worker process is started again", self._path)
                    link = self._open(self.config)
        return link

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._live().pid

    @property
    def plan(self) -> MemoryPlan:
        """How the model was opened, the last time."""
        return self._opened.plan

    @property
    def config(self) -> ModelConfig:
        """The options, with nothing left to choose."""
        return self._opened.config

    @property
    def _opened(self) -> Ready:
        assert self._ready is not None  # noqa: S101 - open() returns nothing else
        return self._ready

    def start(
        self, asks: Sequence[Ask], on_reply: Callable[[Reply], None] | None = None
    ) -> list[Stream]:
        """Begin all of ``asks`` together."""
        link = self._live()
        jobs = [Delivery(on_reply, ask.grammar) for ask in asks for _ in range(ask.n)]
        numbers = link.begin(jobs, ASK, {"asks": encode(list(asks))})
        return [
            Stream(job, partial(link.cancel, number))
            for job, number in zip(jobs, numbers, strict=True)
        ]

    def check_template(self) -> None:
        """Raise TemplateError if conversations cannot be written for the model."""
        self._live().call(TEMPLATE)

    def tokenize(self, text: str) -> list[int]:
        """Turn text into token ids."""
        tokens: list[int] = self._live().call(TOKENIZE, text, answer=list[int])
        return tokens

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Turn token ids into text."""
        return str(self._live().call(DETOKENIZE, list(tokens), answer=str))

    def memory(self) -> MemoryReceipt:
        """Return what the model has in memory now, in the child."""
        receipt: MemoryReceipt = self._live().call(MEMORY, answer=MemoryReceipt)
        return receipt

    def close(self) -> None:
        """End the child; what runs is cancelled."""
        self._closed = True
        link = self._link
        if link is not None and link.is_alive:
            link.close(CLOSE)
        with self._lock:  # one that was just being started
            link = self._link
            if link is not None and link.is_alive:
                link.kill()


def _closed() -> StateError:
    return StateError("the model is closed", hint="Open it again with Model.open.")
