"""Conversations as tables, and as files."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ..conversations import to_json, to_markdown
from ..errors import HistoryError
from ..textfile import write_text
from .untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..conversations import Conversation, ConversationStore, Hit


def list_table(conversations: Sequence[Conversation]) -> Table:
    """Show conversations: id, when they were held last, turns and title."""
    table = _table()
    table.add_column("turns", justify="right")
    table.add_column("title", ratio=1, no_wrap=True, overflow="ellipsis")
    for one in conversations:
        table.add_row(str(one.id), _when(one), str(one.turns), _plain(one.title))
    return table


def hits_table(hits: Sequence[Hit], words: str) -> Table:
    """Show what a search found, with the words marked."""
    table = _table()
    table.add_column("found", ratio=1)
    pattern = "|".join(re.escape(word) for word in words.split())
    for hit in hits:
        text = _plain(f"{hit.conversation.title}\n{hit.excerpt}")
        text.highlight_regex(re.compile(pattern, re.IGNORECASE), "bold")
        table.add_row(str(hit.conversation.id), _when(hit.conversation), text)
    return table


def export(store: ConversationStore, conversation: Conversation, *, as_json: bool) -> str:
    """Return a conversation as the text of a file."""
    turns = store.turns(conversation.id)
    if not as_json:
        return to_markdown(conversation, turns)
    return json.dumps(to_json(conversation, turns), ensure_ascii=False, indent=2) + "\n"


def write_export(store: ConversationStore, conversation: Conversation, path: Path) -> None:
    """Write a conversation to a file: as JSON if its name says so, else as Markdown.

    Raises:
        HistoryError: the file is there already, or cannot be written.
    """
    text = export(store, conversation, as_json=path.suffix.lower() == ".json")
    try:
        if path.exists():
            raise HistoryError(f"{path}: already exists", hint="Give another name, or remove it.")
        write_text(path, text)
    except OSError as error:
        raise HistoryError(
            f"{path}: {error.strerror or error}", hint="Check the folder and its permissions."
        ) from error


def _table() -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("id", justify="right")
    table.add_column("last", no_wrap=True)
    return table


def _when(conversation: Conversation) -> str:
    return f"{conversation.updated.astimezone():%Y-%m-%d %H:%M}"


def _plain(text: str) -> Text:
    return Text(printable(text))
