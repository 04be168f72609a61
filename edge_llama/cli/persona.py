"""``edge-llama persona``: system prompt, sampling and schema under a name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import console

app = typer.Typer(help="Keep a system prompt, sampling and a schema under a name.")

_NAME = typer.Argument(metavar="NAME", help="The persona's name.")


@app.callback(
    invoke_without_command=True,
    epilog='Example: `edge-llama persona save pirate --system "Talk like a pirate." '
    "--set temperature=0.9`",
)
def persona(context: typer.Context) -> None:
    """Keep a system prompt, sampling and a schema under a name, for chat --persona NAME."""
    if context.invoked_subcommand is None:
        list_()


@app.command("list")
def list_() -> None:
    """List the names."""
    from .. import personas

    names = personas.names()
    console.write("".join(f"{name}\n" for name in names))
    if not names:
        console.note('(none yet; make one: edge-llama persona save NAME --system "You are...")')


@app.command()
def show(name: Annotated[str, _NAME]) -> None:
    """Show a persona as JSON, and on standard error the file to edit."""
    from .. import personas

    console.write_json(personas.to_values(personas.load(name)))
    console.note(f"({personas.path_of(name)})")


@app.command()
def save(
    name: Annotated[str, _NAME],
    system: Annotated[
        str | None, typer.Option("--system", help="The system prompt; @FILE reads a file.")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of sampling, as in chat."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="A model of its own.")] = None,
    schema: Annotated[
        Path | None, typer.Option("--json-schema", help="A JSON Schema that answers follow.")
    ] = None,
) -> None:
    """Make a persona, in place of any of that name."""
    from .. import personas
    from ..sampling import Sampling
    from .options import with_sampling

    sampling = Sampling()
    for option in options or ():
        key, _, value = option.partition("=")
        sampling = with_sampling(sampling, key.strip(), value)
    if system is not None and system.startswith("@"):
        system = _read(Path(system[1:]))
    made = personas.Persona(
        system=system,
        sampling=sampling,
        model=model,
        schema=None if schema is None else str(schema.resolve()),
    )
    console.write(f"{personas.save(name, made)}\n")


@app.command()
def rm(name: Annotated[str, _NAME]) -> None:
    """Delete a persona."""
    from .. import personas

    personas.delete(name)
    console.note(f"({name} deleted)")


def _read(path: Path) -> str:
    from ..errors import InvalidOptionError

    try:
        return path.expanduser().read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text in UTF-8"
        raise InvalidOptionError(
            f"{path}: {reason}", hint="--system @FILE reads the prompt from a text file."
        ) from error
