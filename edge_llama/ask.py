"""What a caller asks of a model, before anything is read or chosen."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from .errors import InvalidOptionError
from .sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack

    from .grammar import Grammar
    from .messages import Message


class Asking(TypedDict, total=False):
    """How to answer a prompt; see :meth:`Model.stream`."""

    sampling: Sampling | None
    grammar: Grammar | None
    raw: bool


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


def make_ask(prompt: str | Sequence[int], n: int = 1, **how: Unpack[Asking]) -> Ask:
    """Return what a caller asks; InvalidOptionError if ``n`` is not possible."""
    if n < 1:
        raise InvalidOptionError(f"n = {n} is not possible", hint="Use 1 or more.")
    return Ask(
        prompt=prompt if isinstance(prompt, str) else token_ids(prompt),
        sampling=how.get("sampling") or Sampling(),
        grammar=how.get("grammar"),
        raw=how.get("raw", False),
        n=n,
    )


def token_ids(tokens: Sequence[int]) -> tuple[int, ...]:
    """Return token ids as plain numbers, whatever kind of integers they are."""
    return tuple(map(operator.index, tokens))
