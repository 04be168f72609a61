"""The facade: open a model, generate, chat, close."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, overload

from .chat import Chat
from .config import ModelConfig
from .engine import Engine
from .errors import InvalidOptionError
from .gguf_file import GGUFInfo, inspect
from .opening import Opened, open_native
from .prompting import Prompting
from .rules import with_options
from .sampling import Sampling
from .stream import Job, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from .generate import Reply
    from .grammar import Grammar
    from .memory import MemoryPlan, MemoryReceipt
    from .messages import Message
    from .overflow import Prompt


class Model:
    """An open model. Every method may be called from any thread.

    Up to :attr:`ModelConfig.n_parallel` generations run at the same time, in one batch; more wait.
    They share the context: ``n_ctx`` is what each may use, and what all of them have. When it is
    short, the last to begin steps aside until there is room. None sees anything of another; but
    cells lie in another order than for a generation that runs alone, which rounds sums differently,
    so that a near tie of two tokens may fall the other way.

    Use it as a context manager, or call :meth:`close`; a model that is forgotten closes itself,
    also when the interpreter ends.
    """

    def __init__(self, info: GGUFInfo, opened: Opened) -> None:
        """Do not call: use :meth:`open`."""
        self.info = info
        self.config = config = opened.config
        self.n_ctx = opened.plan.n_ctx
        self._opened, self._native = opened, opened.native
        self._prompting = Prompting(info, self._native, overflow=config.overflow, n_ctx=self.n_ctx)
        self._engine = Engine(opened.native, opened.context, opened.make_store(info))
        self._finalizer = weakref.finalize(self, self._engine.close)

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

        Raises:
            ModelFileError: not a GGUF, damaged, or refused by llama.cpp.
            LoadCancelledError: ``on_progress`` ended the load.
            InvalidOptionError: an unknown option, or a value that is not possible.
            OutOfMemoryError: it does not fit into ``memory``, or into what is free.
            DeviceError: ``device`` is not compiled in, or not there.
            NativeLibraryError: llama.cpp is missing or does not fit.
        """
        config = with_options(config or ModelConfig(), options)
        info = inspect(path)
        return cls(info, open_native(info, config, on_progress))

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what runs and free all memory; calling it again does nothing."""
        self._finalizer()

    @property
    def plan(self) -> MemoryPlan:
        """How it was opened: the options that were chosen, and what they take."""
        return self._opened.plan

    def memory(self) -> MemoryReceipt:
        """Return what the model has in memory now, beside what was planned.

        Raises:
            StateError: the model is closed.
        """
        self._native.handle  # noqa: B018 - raises when closed
        return self._opened.receipt()

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
        sampling = sampling or Sampling()
        read = self._prompting.text(prompt, sampling, raw=raw)
        return self._start(self._job(read, sampling, grammar))

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
        if n < 1:
            raise InvalidOptionError(f"n = {n} is not possible", hint="Use 1 or more.")
        sampling = sampling or Sampling()
        read = self._prompting.text(prompt, sampling, raw=raw)
        return self._replies([self._job(read, sampling.candidate(i), grammar) for i in range(n)])

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
        sampling = sampling or Sampling()
        read = [self._prompting.text(prompt, sampling, raw=raw) for prompt in prompts]
        return self._replies([self._job(prompt, sampling, grammar) for prompt in read])

    def _replies(self, jobs: list[Job]) -> list[Reply]:
        """Run jobs together; if anything goes wrong, none is left running."""
        with ExitStack() as stack:
            streams = [stack.enter_context(Stream(job, self._engine.cancel)) for job in jobs]
            self._engine.submit(jobs)
            return [stream.reply for stream in streams]

    def chat(self, *, system: str | None = None, sampling: Sampling | None = None) -> Chat:
        """Begin a conversation; TemplateError when the model has no chat template."""
        self._prompting.template()
        return Chat(self._answer, system=system, sampling=sampling)

    def tokenize(self, text: str) -> list[int]:
        """Turn text into token ids, with BOS if the model wants one; control tokens count."""
        return self._native.tokenize(text, add_special=True, parse_special=True)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Turn token ids into text; control tokens have none."""
        pieces = [self._native.piece(token) for token in self._prompting.checked(tokens)]
        return b"".join(pieces).decode("utf-8", errors="replace")

    def _answer(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        grammar: Grammar | None,
        on_reply: Callable[[Reply], None],
        dropped_turns: int,
    ) -> Stream:
        prompt = self._prompting.chat(messages, sampling, dropped_turns=dropped_turns)
        return self._start(self._job(prompt, sampling, grammar, on_reply))

    def _job(
        self,
        prompt: Prompt,
        sampling: Sampling,
        grammar: Grammar | None,
        on_reply: Callable[[Reply], None] | None = None,
    ) -> Job:
        """Return a job whose options leave nothing open: what is not set is the model's default."""
        sampling = sampling.resolve(self.info.metadata)
        if grammar is None:
            return Job(prompt, sampling, on_reply)
        from .grammar import compile_grammar

        return Job(prompt, sampling, on_reply, compile_grammar(grammar, self._native))

    def _start(self, job: Job) -> Stream:
        self._engine.submit([job])
        return Stream(job, self._engine.cancel)
