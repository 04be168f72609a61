"""Slash commands that keep conversations, find them, and take something out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import HistoryError, InvalidOptionError
from .. import console
from ..conversationlist import hits_table, list_table, write_export
from .clipboard import copy_sequence, last_code

if TYPE_CHECKING:
    from ...conversations import ConversationStore
    from .loop import Repl

#: How many conversations /history lists.
_LISTED = 15


def save(repl: Repl, argument: str) -> None:
    """Name the conversation, or export it."""
    store, number = _store(repl), repl.session.id
    if number is None:
        console.note("(nothing was said yet)")
    elif not argument:
        console.note(f"(kept as {number}; /save NAME names it, /save FILE.md writes a file)")
    elif Path(argument).suffix.lower() in {".md", ".json"}:
        path = Path(argument).expanduser()
        write_export(store, store.get(number), path)
        console.note(f"(written to {path})")
    else:
        store.rename(number, argument)
        console.note(f"(kept as {number}, called {store.get(number).title})")


def load(repl: Repl, argument: str) -> None:
    """Go on with the last one, or another."""
    repl.resume(_store(repl).find(argument or "last"))


def history(repl: Repl, argument: str) -> None:
    """List conversations, or search them."""
    store = _store(repl)
    if argument:
        console.show(hits_table(store.search(argument), argument))
    else:
        console.show(list_table(store.list(limit=_LISTED)))


def copy(repl: Repl, argument: str) -> None:
    """Copy the last answer, or its code."""
    text = repl.session.answer
    if text is None:
        console.note("(nothing to copy yet)")
        return
    if argument == "code":
        text = last_code(text)
        if text is None:
            console.note("(there is no code in the last answer)")
            return
    if not console.stdout.is_terminal:
        raise InvalidOptionError("standard output is no terminal", hint="/save FILE.md instead.")
    console.write(copy_sequence(text))
    console.note(f"({len(text)} characters copied, if this terminal allows it)")


def _store(repl: Repl) -> ConversationStore:
    if repl.session.store is None:
        raise HistoryError(
            "this conversation is not kept", hint="Start without --no-history to keep them."
        )
    return repl.session.store
