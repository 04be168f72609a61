"""Slash commands that change how the conversation goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from ... import personas
from ...conversations import make_title
from .. import console
from ..options import SAMPLING_NAMES, sampling_field, with_sampling
from .attachments import read_attachment

if TYPE_CHECKING:
    from .loop import Repl


def system(repl: Repl, argument: str) -> None:
    """Show or replace the system prompt."""
    session = repl.session
    if argument:
        text = None if argument == "off" else argument
        session.change(dataclasses.replace(session.persona, system=text))
    console.note(f"(system prompt: {session.persona.system or 'none'})")


def set_(repl: Repl, argument: str) -> None:
    """Show or change how tokens are chosen."""
    session = repl.session
    sampling = session.persona.sampling
    name, _, text = argument.partition(" ")
    if text.strip():
        sampling = with_sampling(sampling, name, text.strip())
        session.change(dataclasses.replace(session.persona, sampling=sampling))
    names = [sampling_field(name).name] if name else SAMPLING_NAMES
    values = personas.sampling_values(sampling)
    resolved = sampling.resolve(session.model.info.metadata)
    for one in names:
        mark = "" if one in values else " (default)"
        console.note(f"{one.replace('_', '-')} = {getattr(resolved, one)!r}{mark}")


def schema(repl: Repl, argument: str) -> None:
    """Let answers follow a JSON Schema."""
    session = repl.session
    if argument:
        path = None if argument == "off" else str(Path(argument).expanduser().resolve())
        session.change(dataclasses.replace(session.persona, schema=path))
    console.note(f"(answers follow: {session.persona.schema or 'no schema'})")


def persona(repl: Repl, argument: str) -> None:
    """Take on a persona, make one, list them."""
    session = repl.session
    word, _, name = argument.partition(" ")
    if word == "save" and name:
        # The model is left out: a persona that is kept in a chat goes with any.
        kept = dataclasses.replace(session.persona, model=None)
        console.note(f"(kept in {personas.save(name.strip(), kept)})")
    elif argument:
        session.change(personas.load(argument))
        console.note(f"(persona {argument}: {session.persona.system or 'no system prompt'})")
    else:
        console.note(f"({', '.join(personas.names()) or 'no persona yet: /persona save NAME'})")


def file(repl: Repl, argument: str) -> None:
    """Send a text file along."""
    if argument in {"", "off"}:
        repl.session.attached.clear()
        console.note("(no file goes with your next message; /file PATH)")
        return
    text = read_attachment(argument)
    repl.session.attached.append(text)
    tokens = len(repl.session.model.tokenize(text))
    console.note(f"({argument}: {tokens} tokens go with your next message)")


def retry(repl: Repl, argument: str) -> None:
    """Answer the last question again."""
    del argument
    question = _last_question(repl)
    if question is not None:
        repl.session.undo()
        repl.ask(question)


def _last_question(repl: Repl) -> str | None:
    """Return the last question; if there is none, say so."""
    question: str | None = repl.session.question
    if question is None:
        console.note("(nothing was asked yet)")
    return question


def edit(repl: Repl, argument: str) -> None:
    """Ask the last question differently."""
    del argument
    question = _last_question(repl)
    if question is None:
        return
    try:
        changed = repl.entry.read(question)
    except (KeyboardInterrupt, EOFError):
        changed = ""
    if not changed.strip():
        console.note("(left as it was)")
        return
    repl.session.undo()
    repl.ask(changed)


def undo(repl: Repl, argument: str) -> None:
    """Take the last question back."""
    del argument
    question = repl.session.question
    if question is None:
        console.note("(nothing to take back)")
        return
    repl.session.undo()
    console.note(f"(taken back: {make_title(question)})")


def clear(repl: Repl, argument: str) -> None:
    """Begin another; this one is kept."""
    del argument
    kept = repl.session.id
    repl.session.clear()
    console.note("(a new conversation begins" + (f"; {kept} is kept)" if kept else ")"))
