"""The typer application, and the one table from exception to message and exit code."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from .. import __version__
from ..errors import InvalidOptionError
from . import (
    bench,
    chat,
    console,
    convert,
    doctor,
    generate,
    history,
    inspect,
    models,
    perplexity,
    persona,
    pull,
    rm,
    verify,
)
from .interrupt import keep_interrupts

INTERRUPTED = 130

app = typer.Typer(
    name="edge-llama",
    help="Convert LLaMA checkpoints to GGUF and talk to them on a small machine.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(
    "chat",
    cls=chat.ChatCommand,
    epilog="Example: `edge-llama chat models/llama-3.2-1b-q4_k_m.gguf`, or `edge-llama chat "
    "--resume`",
)(chat.chat)
app.command(
    "generate", epilog='Example: `edge-llama generate "Name three moons of Saturn." --json`'
)(generate.generate)
app.command(
    "convert",
    epilog="Example: `edge-llama convert weights/Llama-3.2-1B --type q4_k_m`, or, from the hub, "
    "`edge-llama convert org/name`",
)(convert.convert)
app.command("inspect", epilog="Example: `edge-llama inspect models/llama-3.2-1b-q4_k_m.gguf`")(
    inspect.inspect
)
app.command("info", epilog="Example: `edge-llama info org/name`")(inspect.inspect)
app.command(
    "verify",
    epilog="Example: `edge-llama verify models/llama-q4_k_m.gguf --against weights/Llama-3.2-1B`",
)(verify.verify)
app.add_typer(history.app, name="history")
app.add_typer(persona.app, name="persona")
app.command(
    "perplexity",
    epilog="Example: `edge-llama perplexity models/llama-q4_k_m.gguf wiki.txt "
    "--against models/llama-f16.gguf`",
)(perplexity.perplexity)
app.command("bench", epilog="Example: `edge-llama bench models/llama-q4_k_m.gguf --rounds 9`")(
    bench.bench
)
app.command("doctor", epilog="Example: `edge-llama doctor --json`")(doctor.doctor)
app.command("models", epilog="Example: `edge-llama models --json`")(models.models)
app.command("pull", epilog="Example: `edge-llama pull org/name:Q4_K_M`")(pull.pull)
app.command("rm", epilog="Example: `edge-llama rm org/name --yes`")(rm.rm)


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
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # it has a handler of its own


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code; no exception leaves here as a traceback."""
    console.prepare_streams()
    keep_interrupts()
    try:
        code = app(args=arguments, standalone_mode=False)
        sys.stdout.flush()
    except BaseException as failure:
        if os.environ.get("EDGE_LLAMA_DEBUG"):
            raise
        return _report(failure)
    return code if isinstance(code, int) else 0


def _report(failure: BaseException) -> int:
    """Show what went wrong, in one line, and return the exit code."""
    code = 1
    hint = getattr(failure, "hint", None)
    if isinstance(failure, KeyboardInterrupt | typer.Abort):
        code = INTERRUPTED
    elif isinstance(failure, SystemExit):  # e.g. help whose reader went away
        code = failure.code if isinstance(failure.code, int) else 1
    elif isinstance(failure, typer.Exit):
        code = failure.exit_code
    elif hasattr(failure, "show") and hasattr(failure, "exit_code"):
        # Wrong usage: click's ClickException, which newer typers carry a copy of.
        failure.show()
        code = failure.exit_code
    elif isinstance(hint, str):  # both exception trees: the runtime's and the converter's
        console.error(str(failure), hint)
        code = 2 if isinstance(failure, InvalidOptionError) else 1
    elif isinstance(failure, OSError) and console.is_broken_pipe(failure):
        console.drop_stdout()
    elif isinstance(failure, OSError):
        console.error(str(failure), "Check the file and its permissions.")
    else:
        console.error(
            f"unexpected {type(failure).__name__}: {failure}",
            "Please report it with the traceback that EDGE_LLAMA_DEBUG=1 shows.",
        )
    return code
