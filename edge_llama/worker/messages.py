"""What parent and child say to each other: [kind, number, payload].

A request has a number of its own; "progress" may come before its one answer, "ok" or "error".
A generation has a number of its own too, and ends with "reply" or "failed" after any "text".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config import ModelConfig
    from ..memory import MemoryPlan

#: Requests.
ASK, CANCEL, CLOSE, DETOKENIZE, MEMORY, OPEN, TEMPLATE, TOKENIZE = (
    *("ask", "cancel", "close", "detokenize", "memory", "open", "template", "tokenize"),
)


@dataclass(frozen=True)
class Ready:
    """How a model was opened."""

    plan: MemoryPlan
    config: ModelConfig
