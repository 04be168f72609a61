"""The typer application, and the one table from exception to message and exit code."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import click
import typer

from .. import __version__
from ..errors import EdgeLlamaError, InvalidOptionError
from . import chat, console, convert, generate, inspect

INTERRUPTED = 130

app = typer.Typer(
    name="edge-llama",
    help="Convert LLaMA checkpoints to GGUF and talk to them on a small machine.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("chat", epilog="Example: `edge-llama chat models/llama-3.2-1b-q4_k_m.gguf`")(chat.chat)
app.command(
    "generate", epilog='Example: `edge-llama generate "Name three moons of Saturn." --json`'
)(generate.generate)
app.command(
    "convert", epilog="Example: `edge-llama convert weights/Llama-3.2-1B --type q4_k_m`"
)(convert.convert)
app.command("inspect", epilog="Example: `edge-llama inspect models/llama-3.2-1b-q4_k_m.gguf`")(
    inspect.inspect
)


def _version(value: bool) -> None:  # noqa: FBT001 - typer's callback signature
    if value:
        console.write(f"edge-llama {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show llama.cpp's log on standard error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version
    if verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s")
    else:  # without any handler Python would print the libraries' warnings among our output
        logging.getLogger().addHandler(logging.NullHandler())


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code; no exception leaves here as a traceback."""
    console.prepare_streams()
    try:
        code = app(args=arguments, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except (KeyboardInterrupt, click.exceptions.Abort):
        return INTERRUPTED
    except click.ClickException as failure:
        failure.show()
        return failure.exit_code
    except InvalidOptionError as failure:
        console.error(str(failure), failure.hint)
        return 2
    except EdgeLlamaError as failure:
        console.error(str(failure), failure.hint)
        return 1
    except OSError as failure:
        if console.is_broken_pipe(failure):
            console.drop_stdout()
            return 1
        console.error(str(failure), "Check the file and its permissions.")
        return 1
    except Exception as failure:
        if (hint := getattr(failure, "hint", None)) is not None:  # the converter's own tree
            console.error(str(failure), hint)
            return 1
        if os.environ.get("EDGE_LLAMA_DEBUG"):
            raise
        console.error(
            f"unexpected {type(failure).__name__}: {failure}",
            "Please report it with the traceback that EDGE_LLAMA_DEBUG=1 shows.",
        )
        return 1
    return code if isinstance(code, int) else 0
