"""A model that runs in this process."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from .ask import Ask, Conversation
from .engine import Engine
from .gate import Gate
from .opening import Opened, open_native
from .prompting import Prompting
from .stream import Job, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .config import ModelConfig
    from .generate import Reply
    from .gguf_file import GGUFInfo
    from .grammar import CompiledGrammar
    from .memory import MemoryPlan, MemoryReceipt
    from .overflow import Prompt
    from .sampling import Sampling

    #: Makes the job of one answer.
    MakeJob = Callable[[Prompt, Sampling, CompiledGrammar | None], "AnyJob"]

AnyJob = TypeVar("AnyJob", bound=Job)


class Local:
    """Native model, context and engine thread; see :class:`~edge_llama.runtime.Runtime`."""

    def __init__(self, info: GGUFInfo, opened: Opened) -> None:
        self.native = opened.native
        self._info, self._opened = info, opened
        # Callers prepare prompts in their own threads, with a vocabulary that must not be freed.
        self._gate = Gate()
        config = opened.config
        self._prompting = Prompting(
            info, opened.native, overflow=config.overflow, n_ctx=opened.plan.n_ctx
        )
        self._engine = Engine(opened.native, opened.context, opened.make_store(info))

    @classmethod
    def open(
        cls,
        info: GGUFInfo,
        config: ModelConfig,
        on_progress: Callable[[float], object] | None = None,
    ) -> Local:
        """Plan, load, and start the engine; raises as :meth:`Model.open`."""
        return cls(info, open_native(info, config, on_progress))

    @property
    def plan(self) -> MemoryPlan:
        """How the model was opened."""
        return self._opened.plan

    @property
    def config(self) -> ModelConfig:
        """The options, with nothing left to choose."""
        return self._opened.config

    def start(
        self, asks: Sequence[Ask], on_reply: Callable[[Reply], None] | None = None
    ) -> list[Stream]:
        """Begin all of ``asks`` together."""
        jobs = self.submit(asks, partial(Job, on_reply=on_reply))
        return [Stream(job, partial(self.cancel, job)) for job in jobs]

    def submit(self, asks: Sequence[Ask], make_job: MakeJob[AnyJob]) -> list[AnyJob]:
        """Begin all of ``asks`` together, each answer with a job of its own."""
        with self._gate:
            jobs = [job for ask in asks for job in self._jobs(ask, make_job)]
            self._engine.submit(jobs)
        return jobs

    def cancel(self, job: Job) -> None:
        """End ``job``, from any thread."""
        self._engine.cancel(job)

    def _jobs(self, ask: Ask, make_job: MakeJob[AnyJob]) -> Iterable[AnyJob]:
        """Return jobs whose options leave nothing open: what is not set is the model's default."""
        prompt, grammar = self._read(ask), None
        if ask.grammar is not None:
            from .grammar import compile_grammar

            grammar = compile_grammar(ask.grammar, self.native)
        sampling = ask.sampling.resolve(self._info.metadata)
        return [make_job(prompt, sampling.candidate(i), grammar) for i in range(ask.n)]

    def _read(self, ask: Ask) -> Prompt:
        if isinstance(ask.prompt, Conversation):
            talk = ask.prompt
            return self._prompting.chat(
                talk.messages, ask.sampling, dropped_turns=talk.dropped_turns
            )
        return self._prompting.text(ask.prompt, ask.sampling, raw=ask.raw)

    def check_template(self) -> None:
        """Raise TemplateError if conversations cannot be written for the model."""
        with self._gate:
            self._prompting.template()

    def tokenize(self, text: str) -> list[int]:
        """Turn text into token ids."""
        with self._gate:
            return self.native.tokenize(text, add_special=True, parse_special=True)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Turn token ids into text."""
        with self._gate:
            pieces = [self.native.piece(token) for token in self._prompting.checked(tokens)]
        return b"".join(pieces).decode("utf-8", errors="replace")

    def memory(self) -> MemoryReceipt:
        """Return what the model has in memory now."""
        with self._gate:
            return self._opened.receipt()

    def close(self) -> None:
        """Cancel what runs and free all memory."""
        self._gate.close()
        self._engine.close()
