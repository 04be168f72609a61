"""Conversations as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..messages import Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

#: How an answer ended: by itself, stopped by a person, or not at all: the process did.
Status = Literal["complete", "stopped", "unfinished"]

#: Most characters of a title that is made from the first question.
TITLE_CHARS = 60


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A question and what there is of its answer; ``asked`` is in UTC."""

    id: int
    question: str
    answer: str
    status: Status
    asked: datetime


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A conversation without its turns; times are in UTC.

    Attributes:
        id: never used again, also when the conversation is deleted.
        title: the beginning of the first question, unless a name was given.
        model: the model that was asked last, as a path.
        system: the system prompt.
        settings: whatever else belongs to it, as JSON values; see :class:`Thread`.
        turns: how many there are.
    """

    id: int
    title: str
    model: str
    system: str | None
    settings: Mapping[str, Any] = field(hash=False)
    created: datetime
    updated: datetime
    turns: int


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A conversation that a search found, and the words around the first find."""

    conversation: Conversation
    excerpt: str


def messages(system: str | None, turns: Iterable[Turn]) -> list[Message]:
    """Return what a model is shown; questions that were never answered are left out."""
    result = [Message("system", system)] if system else []
    for turn in turns:
        if turn.answer:
            result += [Message("user", turn.question), Message("assistant", turn.answer)]
    return result


def make_title(question: str) -> str:
    """Return the beginning of a question as one line."""
    text = " ".join("".join(c if c.isprintable() else " " for c in question).split())
    return text if len(text) <= TITLE_CHARS else text[: TITLE_CHARS - 1].rstrip() + "…"
