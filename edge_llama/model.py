"""The facade: open a model, generate, chat, close."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from .chat import Chat, Message, as_dicts
from .config import ModelConfig
from .engine import Engine
from .errors import InvalidOptionError, TemplateError
from .gguf_file import GGUFInfo, inspect
from .opening import Opened, open_native
from .prompt import chat_tokens
from .rules import with_options
from .sampling import Sampling
from .stream import Job, Stream
from .template import ChatTemplate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from .generate import Reply
    from .memory import MemoryPlan, MemoryReceipt


class Model:
    """An open model. Every method may be called from any thread; generations queue.

    Use it as a context manager, or call :meth:`close`; a model that is forgotten closes itself,
    also when the interpreter ends.
    """

    def __init__(self, info: GGUFInfo, opened: Opened) -> None:
        """Do not call: use :meth:`open`."""
        self.info = info
        self.config = opened.config
        self.n_ctx = opened.plan.n_ctx
        self._opened, self._native = opened, opened.native
        self._engine = Engine(opened.native, opened.context)
        self._template: ChatTemplate | None = None
        self._template_lock = threading.Lock()
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
        self, prompt: str | Sequence[int], *, sampling: Sampling | None = None, raw: bool = False
    ) -> Stream:
        """Answer ``prompt`` and return the text as it is generated.

        With a chat template the prompt is one user message. With ``raw``, or without a template,
        the model continues the text itself, in which texts of control tokens count as those
        tokens. Token ids are always taken as they are.

        Raises:
            StateError: the model is closed.
            InvalidOptionError: the prompt is empty.
            ContextOverflowError (when iterating): the prompt does not fit into the context.
        """
        if not isinstance(prompt, str):
            tokens = self._checked(prompt)
        elif not prompt:
            raise InvalidOptionError("the prompt is empty", hint="Give at least one character.")
        elif raw or not self.has_chat_template:
            tokens = self.tokenize(prompt)
        else:
            tokens = self._chat_tokens([Message("user", prompt)])
        return self._start(tokens, sampling or Sampling(), None)

    def generate(
        self, prompt: str | Sequence[int], *, sampling: Sampling | None = None, raw: bool = False
    ) -> Reply:
        """Answer ``prompt`` and return the whole :class:`Reply`; as :meth:`stream` otherwise."""
        with self.stream(prompt, sampling=sampling, raw=raw) as stream:
            return stream.reply

    def chat(self, *, system: str | None = None, sampling: Sampling | None = None) -> Chat:
        """Begin a conversation; TemplateError when the model has no chat template."""
        self._chat_template()
        return Chat(self._answer, system=system, sampling=sampling)

    def tokenize(self, text: str) -> list[int]:
        """Turn text into token ids, with BOS if the model wants one; control tokens count."""
        return self._native.tokenize(text, add_special=True, parse_special=True)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Turn token ids into text; control tokens have none."""
        pieces = [self._native.piece(token) for token in self._checked(tokens)]
        return b"".join(pieces).decode("utf-8", errors="replace")

    def _checked(self, tokens: Sequence[int]) -> list[int]:
        for token in tokens:
            if not 0 <= token < self._native.n_vocab:
                raise InvalidOptionError(
                    f"token {token} is not in the vocabulary of {self._native.n_vocab}",
                    hint="Use ids of this model's own tokenizer.",
                )
        if not tokens:
            raise InvalidOptionError("the prompt is empty", hint="Give at least one token.")
        return list(tokens)

    def _start(
        self, tokens: list[int], sampling: Sampling, on_reply: Callable[[Reply], None] | None
    ) -> Stream:
        job = Job(tokens, sampling.resolve(self.info.metadata), on_reply)
        self._engine.submit(job)
        return Stream(job, self._engine.cancel)

    def _answer(
        self, messages: Sequence[Message], sampling: Sampling, on_reply: Callable[[Reply], None]
    ) -> Stream:
        return self._start(self._chat_tokens(messages), sampling, on_reply)

    def _chat_tokens(self, messages: Sequence[Message]) -> list[int]:
        return chat_tokens(
            self._native,
            self._chat_template(),
            as_dicts(messages),
            bos=self._text(self._native.bos),
        )

    def _text(self, token: int | None) -> str:
        return "" if token is None else self._native.text(token)

    def _chat_template(self) -> ChatTemplate:
        with self._template_lock:
            if self._template is None:
                source = self.info.chat_template
                if source is None:
                    raise TemplateError(
                        f"{self.info.path}: the model has no chat template",
                        hint="It is probably a base model; let it continue text with generate.",
                    )
                self._template = ChatTemplate(
                    source, bos=self._text(self._native.bos), eos=self._text(self._native.eos)
                )
            return self._template
