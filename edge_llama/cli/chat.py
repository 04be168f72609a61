"""``edge-llama chat``: a conversation in the terminal, or one answer for a pipe."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import ModelConfig
from ..errors import EdgeLlamaError
from ..sampling import Sampling
from . import console, options

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

    from ..chat import Chat
    from ..model import Model

_HELP = """\
/clear   forget the conversation
/memory  show what the model takes
/bye     leave (so does Ctrl-D)
/help    show this
Ctrl-C stops an answer. End a line with \\ to go on in the next."""


@options.runs_model()
def chat(
    model: options.ModelName = None,
    system: Annotated[str | None, typer.Option("--system", help="A system prompt.")] = None,
    *,
    config: ModelConfig,
    sampling: Sampling,
) -> None:
    """Talk to a model. With a prompt on standard input, answer it once and exit."""
    from .runtime import open_model, read_stdin, show_logprobs, show_memory, write_stream

    interactive = sys.stdin.isatty()
    question = None if interactive else read_stdin()
    if not interactive and not question:
        console.error("standard input is empty", "Pipe a prompt in, or run it in a terminal.")
        raise typer.Exit(1)
    with open_model(model, config) as opened:
        conversation = opened.chat(system=system, sampling=sampling)
        if question:
            reply = write_stream(conversation.stream(question))
            console.write("\n")
            show_logprobs(reply)
            if console.is_verbose():
                show_memory(opened)
        else:
            _converse(opened, conversation)


def _converse(model: Model, conversation: Chat) -> None:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import InMemoryHistory

    from ..units import format_bytes
    from .runtime import show_memory

    info, plan = model.info, model.plan
    console.note(
        f"{info.name} | {info.n_parameters / 1e6:,.0f}M parameters | "
        f"{info.nbytes / 1e6:,.0f} MB | context {model.n_ctx} | {plan.device} | "
        f"memory {format_bytes(plan.total)} | /help"
    )
    session: PromptSession[str] = PromptSession(history=InMemoryHistory())
    while True:
        try:
            text = _read_message(session)
        except KeyboardInterrupt:
            console.note("(Ctrl-D or /bye leaves)")
            continue
        except EOFError:
            return
        command = text.strip()
        if command in {"/bye", "/exit", "/quit"}:
            return
        if command == "/clear":
            conversation.clear()
            console.note("(the conversation is forgotten)")
        elif command == "/memory":
            show_memory(model)
        elif command.startswith("/"):
            if command != "/help":
                console.note(f"(unknown command {command.split()[0]})")
            console.note(_HELP)
        elif command:
            _answer(conversation, text)


def _read_message(session: PromptSession[str]) -> str:
    """Read a message; a line that ends in a backslash goes on in the next."""
    lines = [session.prompt("> ")]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(session.prompt(". "))
    return "\n".join(lines)


def _answer(conversation: Chat, text: str) -> None:
    from .runtime import show_logprobs, summary, write_stream

    try:
        stream = conversation.stream(text)
        with contextlib.suppress(KeyboardInterrupt):  # ends the answer, not the program
            write_stream(stream)
        console.write("\n")
        show_logprobs(stream.reply)
        console.note(summary(stream.reply))
    except EdgeLlamaError as failure:
        console.error(str(failure), f"{failure.hint} /clear starts anew.")
