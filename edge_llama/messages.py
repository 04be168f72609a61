"""The turns of a conversation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str


def as_dicts(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Return the messages in the form that templates expect."""
    return [asdict(message) for message in messages]


def turns(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """Return what comes before the first question, and the turns: a question and its answer each.

    Whatever follows a question up to the next one belongs to its turn.
    """
    beginning: list[Message] = []
    rest: list[list[Message]] = []
    for message in messages:
        if message.role == "user":
            rest.append([message])
        else:
            (rest[-1] if rest else beginning).append(message)
    return beginning, rest
