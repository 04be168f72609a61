"""What a Model needs of whatever runs it: the engine in this process, or one in a child."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .ask import Ask
    from .config import ModelConfig
    from .generate import Reply
    from .memory import MemoryPlan, MemoryReceipt
    from .stream import Stream


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
