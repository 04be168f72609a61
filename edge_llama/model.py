"""The facade: open a model, generate, chat, close."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, overload

from .ask import Ask, Conversation, make_ask, token_ids
from .asyncstream import AsyncStream
from .chat import Chat
from .closing import Closing
from .config import ModelConfig
from .forks import Home
from .gguf_file import GGUFInfo, inspect
from .rules import with_options
from .waiting import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from typing_extensions import Unpack

    from .ask import Asking
    from .generate import Reply
    from .grammar import Grammar
    from .memory import MemoryPlan, MemoryReceipt
    from .messages import Message
    from .runtime import Runtime
    from .sampling import Sampling
    from .stream import Stream


class Model(Closing):
    """An open model. Every method may be called from any thread.

    Up to :attr:`ModelConfig.n_parallel` generations run at the same time, in one batch; more wait.
    They share the context: ``n_ctx`` is what each may use, and what all of them have. When it is
    short, the last to begin steps aside until there is room. None sees anything of another; but
    cells lie in another order than for a generation that runs alone, which rounds sums differently,
    so that a near tie of two tokens may fall the other way.

    Use it as a context manager, or call :meth:`close`; a model that is forgotten closes itself,
    also when the interpreter ends.
    """

    def __init__(self, info: GGUFInfo, runtime: Runtime) -> None:
        """Do not call: use :meth:`open`."""
        self.info = info
        self.config, self.n_ctx = runtime.config, runtime.plan.n_ctx
        self._home, self._opened = Home(), runtime
        self._finalizer = weakref.finalize(self, _close, self._home, runtime)

    @classmethod
    def open(
        cls,
        path: str | Path,
        config: ModelConfig | None = None,
        *,
        on_progress: Callable[[float], object] | None = None,
        **options: Any,
    ) -> Model:
        """Open the GGUF at ``path``.

        ``options`` are fields of :class:`ModelConfig` and change ``config``, e.g. ``n_ctx=8192``.
        Of a model in several files ``path`` is the first. ``on_progress`` is called in this thread
        with the fraction that is loaded, 0 to 1; it ends the load by returning False or raising.

        With ``isolate`` the model runs in a child process, and a crash there is a WorkerDied here:
        of all that runs at that moment. The next call starts it again.

        Raises:
            ModelFileError: not a GGUF, damaged, or refused by llama.cpp.
            LoadCancelledError: ``on_progress`` ended the load.
            InvalidOptionError: an unknown option, or a value that is not possible.
            OutOfMemoryError: it does not fit into ``memory``, or into what is free.
            DeviceError: ``device`` is not compiled in, or not there.
            NativeLibraryError: llama.cpp is missing or does not fit.
            WorkerDied: the child process ended while it loaded the model.
        """
        config = with_options(config or ModelConfig(), options)
        info = inspect(path)
        if config.isolate:
            from .worker import Worker

            return cls(info, Worker.open(info, config, on_progress))
        from .local import Local

        return cls(info, Local.open(info, config, on_progress))

    def close(self) -> None:
        """Cancel what runs and free all memory; calling it again does nothing."""
        self._finalizer()

    @property
    def _runtime(self) -> Runtime:
        """What runs the model; StateError in a fork of the process that opened it."""
        self._home.check()
        return self._opened

    @property
    def plan(self) -> MemoryPlan:
        """How it was opened: the options that were chosen, and what they take."""
        return self._opened.plan

    def memory(self) -> MemoryReceipt:
        """Return what the model has in memory now, beside what was planned.

        Raises:
            StateError: the model is closed.
        """
        return self._runtime.memory()

    @property
    def has_chat_template(self) -> bool:
        """Whether the file says how a conversation is written for this model."""
        return self.info.chat_template is not None

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        sampling: Sampling | None = None,
        grammar: Grammar | None = None,
        raw: bool = False,
    ) -> Stream:
        """Answer ``prompt`` and return the text as it is generated.

        With a chat template the prompt is one user message. With ``raw``, or without a template,
        the model continues the text itself, in which texts of control tokens count as those
        tokens. Token ids are always taken as they are.

        With a ``grammar`` the answer is what it allows, and nothing else; the reply's ``parse()``
        returns the value. It raises GrammarError while it is read if the grammar proves too much.

        Raises:
            StateError: the model is closed.
            InvalidOptionError: the prompt is empty.
            ContextOverflowError: the prompt does not fit into the context.
            GrammarError: the grammar cannot be used with this model's vocabulary.
        """
        return self._runtime.start([make_ask(prompt, sampling=sampling, grammar=grammar, raw=raw)])[
            0
        ]

    @overload
    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        sampling: Sampling | None = ...,
        grammar: Grammar | None = ...,
        raw: bool = ...,
    ) -> Reply: ...
    @overload
    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        n: int,
        sampling: Sampling | None = ...,
        grammar: Grammar | None = ...,
        raw: bool = ...,
    ) -> list[Reply]: ...
    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        n: int | None = None,
        sampling: Sampling | None = None,
        grammar: Grammar | None = None,
        raw: bool = False,
    ) -> Reply | list[Reply]:
        """Answer ``prompt`` and return the whole :class:`Reply`; as :meth:`stream` otherwise.

        With ``n``, return that many candidates; the prompt is read once. A seed is the first
        one's, and counts up for the others.
        """
        if n is None:
            with self.stream(prompt, sampling=sampling, grammar=grammar, raw=raw) as stream:
                return stream.reply
        return self._replies([make_ask(prompt, n, sampling=sampling, grammar=grammar, raw=raw)])

    def generate_many(
        self,
        prompts: Sequence[str | Sequence[int]],
        *,
        sampling: Sampling | None = None,
        grammar: Grammar | None = None,
        raw: bool = False,
    ) -> list[Reply]:
        """Answer many prompts, several at a time, and return the replies in their order.

        A beginning that they share is read once. Errors are those of :meth:`stream`; one of
        them ends all.
        """
        how: Asking = {"sampling": sampling, "grammar": grammar, "raw": raw}
        return self._replies([make_ask(prompt, **how) for prompt in prompts])

    def _replies(self, asks: Sequence[Ask]) -> list[Reply]:
        """Answer all together; if anything goes wrong, none is left running."""
        with ExitStack() as stack:
            streams = [stack.enter_context(stream) for stream in self._runtime.start(asks)]
            return [stream.reply for stream in streams]

    def astream(self, prompt: str | Sequence[int], **how: Unpack[Asking]) -> AsyncStream:
        """Return as :meth:`stream` in a form that never blocks the event loop.

        The generation begins when the first text, or the reply, is awaited.
        """
        return AsyncStream(partial(self.stream, prompt, **how))

    @overload
    async def agenerate(self, prompt: str | Sequence[int], **how: Unpack[Asking]) -> Reply: ...
    @overload
    async def agenerate(
        self, prompt: str | Sequence[int], *, n: int, **how: Unpack[Asking]
    ) -> list[Reply]: ...
    async def agenerate(
        self, prompt: str | Sequence[int], *, n: int | None = None, **how: Unpack[Asking]
    ) -> Reply | list[Reply]:
        """Return as :meth:`generate` without blocking the event loop.

        A task that is cancelled meanwhile cancels the generation.
        """
        if n is None:
            async with self.astream(prompt, **how) as answer:
                return await answer.reply()
        ask = make_ask(prompt, n=n, **how)
        streams = await in_thread(lambda: self._runtime.start([ask]))
        try:
            return [await stream.areply() for stream in streams]
        finally:
            for stream in streams:
                stream.cancel()

    def chat(self, *, system: str | None = None, sampling: Sampling | None = None) -> Chat:
        """Begin a conversation; TemplateError when the model has no chat template."""
        self._runtime.check_template()
        return Chat(self._answer, system=system, sampling=sampling)

    def tokenize(self, text: str) -> list[int]:
        """Turn text into token ids, with BOS if the model wants one; control tokens count."""
        return self._runtime.tokenize(text)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Turn token ids into text; control tokens have none."""
        return self._runtime.detokenize(token_ids(tokens))

    def _answer(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        grammar: Grammar | None,
        on_reply: Callable[[Reply], None],
        dropped_turns: int,
    ) -> Stream:
        talk = Conversation(tuple(messages), dropped_turns)
        ask = Ask(prompt=talk, sampling=sampling, grammar=grammar)
        return self._runtime.start([ask], on_reply)[0]


def _close(home: Home, runtime: Runtime) -> None:
    if home.is_here:  # the engine of a fork is in the other process
        runtime.close()
