"""A conversation as Markdown to read, or as JSON to go on with in another program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .records import Conversation, Turn

_NOTES = {"complete": "", "stopped": "*(stopped)*", "unfinished": "*(cut off)*"}


def to_markdown(conversation: Conversation, turns: Sequence[Turn]) -> str:
    """Return a conversation as a Markdown document."""
    parts = [
        f"# {conversation.title}",
        f"*{conversation.model}, {conversation.created.astimezone():%Y-%m-%d %H:%M}*",
    ]
    if conversation.system:
        parts.append("\n".join(f"> {line}".rstrip() for line in conversation.system.splitlines()))
    for turn in turns:
        parts += ["## You", turn.question, "## Model", turn.answer, _NOTES[turn.status]]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_json(conversation: Conversation, turns: Sequence[Turn]) -> dict[str, Any]:
    """Return a conversation as JSON values; ``messages`` are in OpenAI's form, with times."""
    messages: list[dict[str, Any]] = []
    if conversation.system:
        messages.append({"role": "system", "content": conversation.system})
    for turn in turns:
        asked = turn.asked.isoformat(timespec="seconds")
        messages.append({"role": "user", "content": turn.question, "time": asked})
        answer = {"role": "assistant", "content": turn.answer, "status": turn.status}
        messages.append(answer)
    return {
        "id": conversation.id,
        "title": conversation.title,
        "model": conversation.model,
        "created": conversation.created.isoformat(timespec="seconds"),
        "updated": conversation.updated.isoformat(timespec="seconds"),
        "settings": dict(conversation.settings),
        "messages": messages,
    }
