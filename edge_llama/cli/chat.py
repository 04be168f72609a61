"""``edge-llama chat``: a conversation in the terminal, or one answer for a pipe."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from .. import personas
from ..config import ModelConfig
from ..errors import HistoryError
from ..personas import Persona
from ..sampling import Sampling
from . import console, options

if TYPE_CHECKING:
    from ..conversations import Conversation, ConversationStore
    from ..model import Model
    from .repl.session import Session


def _persona_names(incomplete: str) -> list[str]:
    return [name for name in personas.names() if name.startswith(incomplete)]


def _conversation_ids(incomplete: str) -> list[tuple[str, str]]:
    """Return ids and titles for the shell, which must not hear of faults."""
    from ..conversations import ConversationStore

    with contextlib.suppress(HistoryError), ConversationStore.open() as store:
        listed = [(str(one.id), one.title) for one in store.list(limit=20)]
        return [pair for pair in listed if pair[0].startswith(incomplete)]
    return []


@options.runs_model()
def chat(
    model: options.ModelName = None,
    system: Annotated[str | None, typer.Option("--system", help="A system prompt.")] = None,
    persona: Annotated[
        str | None,
        typer.Option(
            "--persona",
            "-p",
            help="A persona; see edge-llama persona.",
            autocompletion=_persona_names,
        ),
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option("--json-schema", metavar="FILE", help="Answer in JSON that fits this schema."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            "-r",
            metavar="[ID|NAME]",
            help="Go on with a conversation, or the last.",
            autocompletion=_conversation_ids,
        ),
    ] = None,
    no_history: Annotated[
        bool, typer.Option("--no-history", help="Keep nothing of this conversation.")
    ] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Show answers as they are, not as Markdown.")
    ] = False,
    *,
    config: ModelConfig,
    sampling: Sampling,
) -> None:
    """Talk to a model. With a prompt on standard input, answer it once and exit.

    Conversations are kept (edge-llama history), unless --no-history is given.
    """
    from .interrupt import interruptible
    from .repl.keyboard import quiet_keyboard
    from .runtime import open_model, read_stdin

    question = None if sys.stdin.isatty() else read_stdin()
    if question is not None and not question:
        console.error("standard input is empty", "Pipe a prompt in, or run it in a terminal.")
        raise typer.Exit(1)
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.enter_context(quiet_keyboard())
        store = _open_store(resume, no_history=no_history)
        if store is not None:
            stack.enter_context(store)
        resumed = None if store is None or resume is None else store.find(resume)
        chosen = _persona(
            persona, resumed, Persona(system=system, sampling=sampling, schema=_absolute(schema))
        )
        if question is None:
            _import_ahead()
        opened = open_model(
            model or _model_of(resumed, chosen), _with_states(config, kept=store is not None)
        )
        stack.enter_context(opened)
        session = _session(opened, chosen, store)
        if question is None:
            _converse(session, resumed, plain=plain)
        else:
            if resumed is not None:
                session.resume(resumed)
            _answer_once(session, question)


def _open_store(resume: str | None, *, no_history: bool) -> ConversationStore | None:
    """Open the conversations; what is wrong with them keeps nobody from talking, or is told."""
    from ..conversations import ConversationStore
    from ..errors import InvalidOptionError

    if no_history:
        if resume is not None:
            raise InvalidOptionError(
                "--resume and --no-history exclude each other", hint="Drop one of them."
            )
        return None
    try:
        return ConversationStore.open()
    except HistoryError as fault:
        if resume is not None:
            raise
        _go_on_without(fault)
        return None


def _go_on_without(fault: HistoryError) -> None:
    console.error(f"{fault} (this conversation is not kept)", fault.hint)


def _persona(name: str | None, resumed: Conversation | None, given: Persona) -> Persona:
    """Return how to talk: what is given, else the persona, else as it was before."""
    from .repl.session import overridden, persona_of

    if name is not None:
        base = personas.load(name)
    elif resumed is not None:
        base = persona_of(resumed)
    else:
        base = Persona()
    return overridden(base, given)


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.expanduser().resolve())


def _model_of(resumed: Conversation | None, persona: Persona) -> str | None:
    """Return the model to open if none is named."""
    from ..catalog import find_model
    from ..errors import ModelNotFoundError

    name = persona.model if resumed is None else resumed.model
    if name is None or Path(name).exists():
        return name
    try:  # the embedded model moves with the environment it is installed in
        return None if find_model().name == Path(name).name else name
    except ModelNotFoundError:
        return name


def _with_states(config: ModelConfig, *, kept: bool) -> ModelConfig:
    """Let what was read outlive the process, unless nothing is to be kept: states hold text.

    Nor within a given memory, beyond which a copy of the cache would go.
    """
    from ..folders import states_folder

    if config.state_dir is not None or config.memory is not None or not kept:
        return config
    return dataclasses.replace(config, state_dir=str(states_folder()))


def _import_ahead() -> None:
    """Import what the terminal needs while the model loads: the first word comes 0.1 s sooner."""
    import importlib
    import threading

    loop = f"{__package__}.repl.loop"
    threading.Thread(target=importlib.import_module, args=(loop,), daemon=True).start()


def _session(model: Model, persona: Persona, store: ConversationStore | None) -> Session:
    from .repl.session import Session

    return Session(model, persona, store, _go_on_without)


def _converse(session: Session, resumed: Conversation | None, *, plain: bool) -> None:
    from .repl.loop import Repl

    info, plan = session.model.info, session.model.plan
    console.note(
        f"{info.name} | {info.n_parameters / 1e6:,.0f}M parameters | "
        f"{info.nbytes / 1e6:,.0f} MB | {plan.device} | /help"
    )
    repl = Repl(session, plain=plain)
    if resumed is not None:
        repl.resume(resumed)
    repl.run()


def _answer_once(session: Session, question: str) -> None:
    from .repl.answering import answer
    from .repl.telling import overflowed, speed
    from .repl.view import PlainView
    from .runtime import show_logprobs, show_memory

    reply = answer(session, question, PlainView())
    if reply.finish_reason == "cancelled":
        raise KeyboardInterrupt
    show_logprobs(reply)
    for line in overflowed(reply, session.model.config.overflow):
        console.note(f"({line})")
    if console.is_verbose():
        console.note(speed(reply))
        show_memory(session.model)


class ChatCommand(typer.core.TyperCommand):
    """``--resume`` may stand alone: typer knows no options with a value that may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, with "last" in the place of a value that is not there."""
        return super().parse_args(ctx, with_resume_value(args))


def with_resume_value(arguments: list[str]) -> list[str]:
    """Return the arguments with ``--resume last`` for a ``--resume`` without a value.

    What follows is taken as its value if it is no option and no model file.
    """
    result = []
    for i, argument in enumerate(arguments):
        result.append(argument)
        following = arguments[i + 1] if i + 1 < len(arguments) else "-"
        if argument in {"--resume", "-r"} and (
            following.startswith("-") or following.endswith(".gguf")
        ):
            result.append("last")
    return result
