"""The table of slash commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from . import keeping, talking, telling

if TYPE_CHECKING:
    from collections.abc import Callable

    from .loop import Repl

Completes = Literal["", "path", "option", "persona", "conversation"]


@dataclass(frozen=True, kw_only=True)
class Command:
    """A slash command; ``run`` gets the chat and what stands behind the name."""

    name: str
    arguments: str = ""
    help: str
    run: Callable[[Repl, str], None]
    completes: Completes = ""


def _command(
    run: Callable[[Repl, str], None],
    arguments: str = "",
    completes: Completes = "",
) -> Command:
    """Return the command of a function: called like it, helped by its first line."""
    text = (run.__doc__ or "").partition("\n")[0].rstrip(".")
    name = "/" + run.__name__.rstrip("_")
    return Command(name=name, arguments=arguments, help=text, run=run, completes=completes)


COMMANDS = {
    command.name: command
    for command in (
        _command(telling.help_),
        _command(talking.system, "[TEXT|off]"),
        _command(talking.set_, "[NAME [VALUE|default]]", "option"),
        _command(talking.schema, "[FILE|off]", "path"),
        _command(talking.persona, "[NAME | save NAME]", "persona"),
        _command(talking.file, "PATH | off", "path"),
        _command(talking.retry),
        _command(talking.edit),
        _command(talking.undo),
        _command(talking.clear),
        _command(keeping.save, "NAME | FILE.md | FILE.json", "path"),
        _command(keeping.load, "[ID|NAME]", "conversation"),
        _command(keeping.history, "[WORDS]"),
        _command(keeping.copy, "[code]"),
        _command(telling.stats),
        _command(telling.memory),
        _command(telling.bye),
    )
}
_ALIASES = {"/exit": "/bye", "/quit": "/bye", "/?": "/help"}


def find_command(name: str) -> Command | None:
    """Return the command called ``name``, if there is one."""
    return COMMANDS.get(_ALIASES.get(name, name))
