"""What a Model needs of whatever runs it: the engine in this process, or one in a child."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .config import ModelConfig
    from .generate import Reply
    from .grammar import Grammar
    from .memory import MemoryPlan, MemoryReceipt
    from .messages import Message
    from .sampling import Sampling
    from .stream import Stream


@dataclass(frozen=True)
class Conversation:
    """Messages, the last of which is to be answered; see :meth:`Prompting.chat`."""

    messages: tuple[Message, ...]
    dropped_turns: int = 0


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What to generate, as the caller says it.

    Attributes:
        prompt: text, token ids, or a conversation.
        sampling: how; what it leaves open is the model's choice.
        grammar: what the answer is kept to.
        raw: whether text is continued instead of answered.
        n: how many answers to generate.
    """

    prompt: str | tuple[int, ...] | Conversation
    sampling: Sampling
    grammar: Grammar | None = None
    raw: bool = False
    n: int = 1


class Runtime(Protocol):
    """Runs one model; every method may be called from any thread, and raises what Model says."""

    @property
    def plan(self) -> MemoryPlan:
        """How the model was opened."""
        ...

    @property
    def config(self) -> ModelConfig:
        """The options, with nothing left to choose."""
        ...

    def start(
        self, asks: Sequence[Ask], on_reply: Callable[[Reply], None] | None = None
    ) -> list[Stream]:
        """Begin all of ``asks`` together, or none; ``on_reply`` gets a reply before its readers."""
        ...

    def check_template(self) -> None:
        """Raise TemplateError if conversations cannot be written for the model."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Turn text into token ids."""
        ...

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Turn token ids into text."""
        ...

    def memory(self) -> MemoryReceipt:
        """Return what the model has in memory now."""
        ...

    def close(self) -> None:
        """Cancel what runs and free everything; calling it again does nothing."""
        ...
