"""``edge-llama history``: the conversations that were kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from ..errors import HistoryError
from . import console

app = typer.Typer(help="List, search, show, export and delete the conversations that were kept.")

_JSON = typer.Option("--json", help="Print JSON.")
_ID = typer.Argument(metavar="[ID|NAME]", help="A conversation; by default the last one.")


@app.callback(invoke_without_command=True, epilog="Example: `edge-llama history search titan`")
def history(context: typer.Context) -> None:
    """List, search, show, export and delete the conversations that were kept."""
    if context.invoked_subcommand is None:
        list_()


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 30,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """List conversations, the one held last first."""
    from ..conversations import ConversationStore, to_json
    from .conversationlist import list_table

    with ConversationStore.open() as store:
        found = store.list(limit)
    if as_json:
        keys = ("id", "title", "model", "created", "updated")
        rows = [to_json(one, ()) for one in found]
        console.write_json([{key: row[key] for key in keys} for row in rows])
    elif found:
        console.write_table(list_table(found))
    else:
        console.note("(no conversation yet; begin one: edge-llama chat)")


@app.command()
def search(
    words: Annotated[list[str], typer.Argument(help="Words that a turn must have.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Find conversations by their words, the best first; exit code 1 when there is none."""
    from ..conversations import ConversationStore
    from .conversationlist import hits_table

    text = " ".join(words)
    with ConversationStore.open() as store:
        hits = store.search(text, limit)
    if as_json:
        console.write_json(
            [
                {"id": hit.conversation.id, "title": hit.conversation.title, "text": hit.excerpt}
                for hit in hits
            ]
        )
    elif hits:
        console.write_table(hits_table(hits, text))
    if not hits:
        if not as_json:
            console.note("(nothing found)")
        raise typer.Exit(1)


@app.command()
def show(
    name: Annotated[str, _ID] = "last",
    plain: Annotated[bool, typer.Option("--plain", help="Show Markdown as it is.")] = False,
) -> None:
    """Show a conversation."""
    from ..conversations import ConversationStore, to_markdown
    from .repl.view import make_view

    with ConversationStore.open() as store:
        conversation = store.find(name)
        turns = store.turns(conversation.id)
    view = make_view(plain=plain)
    view.push(to_markdown(conversation, turns))
    view.end()


@app.command()
def export(
    name: Annotated[str, _ID] = "last",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file: .json is JSON, any other Markdown."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of Markdown.")] = False,
) -> None:
    """Write a conversation as Markdown or JSON, to standard output or a file."""
    from ..conversations import ConversationStore
    from .conversationlist import export as exported
    from .conversationlist import write_export

    with ConversationStore.open() as store:
        conversation = store.find(name)
        if output is None:
            console.write_untrusted(exported(store, conversation, as_json=as_json))
        else:
            path = output.with_suffix(".json") if as_json else output
            write_export(store, conversation, path)
            console.note(f"({path})")


@app.command()
def rm(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ID|NAME]...", help="Conversations.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every conversation.")] = False,
) -> None:
    """Delete conversations for good, with all states that chats have saved."""
    from ..conversations import ConversationStore
    from ..errors import InvalidOptionError

    if bool(names) == everything:
        raise InvalidOptionError(
            "nothing to delete was named" if everything is False else "--all and names were given",
            hint="Name conversations by their id, or use --all.",
        )
    with ConversationStore.open() as store:
        found = store.list() if everything else [store.find(name) for name in names or ()]
        store.delete([one.id for one in found])
    _delete_states()
    console.note(f"({len(found)} deleted)")


def _delete_states() -> None:
    """Delete the states of all conversations: they hold their tokens, and say not whose."""
    from ..folders import states_folder

    folder = states_folder()
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise HistoryError(
            f"{folder}: {error.strerror or error}", hint="Remove that folder yourself."
        ) from error
