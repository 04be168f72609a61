"""``edge-llama generate``: one prompt, one answer or several, for pipes and scripts."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import ModelConfig
from ..errors import InvalidOptionError
from ..sampling import Sampling
from . import console, grammars, options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..generate import Reply
    from ..grammar import Grammar
    from ..model import Model
    from ..stream import Stream


@options.runs_model(overflow="refuse")
def generate(
    first: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="As for chat; may be left out."),
    ] = None,
    second: Annotated[
        str | None,
        typer.Argument(metavar="[PROMPT|-]", help="The prompt; - or nothing reads stdin."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The model, as an option instead of an argument."),
    ] = None,
    file: Annotated[
        list[Path],
        typer.Option(
            "--file", "-f", help="Add this file to the prompt; may be given several times."
        ),
    ] = [],  # noqa: B006 - typer copies it
    candidates: Annotated[
        int, typer.Option("--candidates", "-n", min=1, max=64, help="Give so many answers.")
    ] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with text, counts and timings.")
    ] = False,
    as_lines: Annotated[
        bool, typer.Option("--stream", help="Print JSON lines: pieces of text as they come.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text itself, without the chat template.")
    ] = False,
    system: Annotated[str | None, typer.Option("--system", help="A system prompt.")] = None,
    json_schema: grammars.SchemaOption = None,
    regex: grammars.RegexOption = None,
    choice: grammars.ChoiceOption = [],  # noqa: B006 - typer copies it
    grammar: grammars.GrammarOption = None,
    after: grammars.AfterOption = None,
    *,
    config: ModelConfig,
    sampling: Sampling,
) -> None:
    """Answer one prompt; the answer and nothing else goes to standard output.

    With one argument it is the prompt and the embedded model answers; a name that ends in
    .gguf or lies in models/ is taken as the model, with the prompt on standard input. Several
    answers are divided by lines of three dashes. An answer that was cut off inside a structure
    makes the exit code 1.
    """
    from .runtime import open_model

    name, prompt = _model_and_prompt(first, second, model)
    if raw and system is not None:
        raise InvalidOptionError("--raw and --system exclude each other", hint="Drop one of them.")
    if as_json and as_lines:
        raise InvalidOptionError("--json and --stream exclude each other", hint="Drop one of them.")
    wanted = grammars.read_grammar(json_schema, regex, choice, grammar, after)
    prompt = _whole_prompt(prompt, file)
    started = time.perf_counter()
    with open_model(name, config) as opened, ExitStack() as stack:
        load_seconds = time.perf_counter() - started
        streams = []
        for number in range(candidates):
            chosen = sampling.candidate(number)
            stream = _start(opened, prompt, chosen, wanted, system=system, raw=raw)
            streams.append(stack.enter_context(stream))
        if as_lines:
            replies = _write_lines(streams)
        elif as_json:
            replies = [stream.reply for stream in streams]
            _write_json(opened, replies, load_seconds)
        else:
            replies = _write_texts(opened, streams)
    for reply in replies:
        if reply.grammar is not None:
            reply.parse()  # what is incomplete must not look like success


def _start(
    opened: Model,
    prompt: str,
    sampling: Sampling,
    grammar: Grammar | None,
    *,
    system: str | None,
    raw: bool,
) -> Stream:
    if system is not None:
        return opened.chat(system=system).stream(prompt, sampling=sampling, grammar=grammar)
    return opened.stream(prompt, sampling=sampling, grammar=grammar, raw=raw)


def _write_texts(opened: Model, streams: Sequence[Stream]) -> list[Reply]:
    from .runtime import dropped, show_logprobs, show_memory, write_stream

    replies = []
    for number, stream in enumerate(streams):
        if number:
            console.write("---\n")
        reply = write_stream(stream)
        console.write("\n")
        show_logprobs(reply)
        for line in dropped(reply):
            console.note(f"({line})")
        replies.append(reply)
    if console.is_verbose():
        show_memory(opened)
    return replies


def _write_json(opened: Model, replies: Sequence[Reply], load_seconds: float) -> None:
    from .answers import answer_facts
    from .memory import memory_facts

    facts: list[dict[str, Any]] = [answer_facts(reply) for reply in replies]
    console.write_json(
        {
            "model": str(opened.info.path),
            **(facts[0] if len(facts) == 1 else {"candidates": facts}),
            "load_seconds": round(load_seconds, 4),
            "memory": memory_facts(opened.memory()),
        }
    )


def _write_lines(streams: Sequence[Stream]) -> list[Reply]:
    from .answers import answer_facts, as_they_come

    replies: dict[int, Reply] = {}
    for number, what in as_they_come(streams):
        if isinstance(what, str):
            console.write_json_line({"candidate": number, "text": what})
        else:
            replies[number] = what
            console.write_json_line({"candidate": number, "reply": answer_facts(what)})
    return [replies[number] for number in sorted(replies)]


def _whole_prompt(prompt: str | None, files: Sequence[Path]) -> str:
    """Return prompt and files, divided by empty lines; without either it is standard input."""
    from .runtime import read_stdin

    parts = [prompt] if prompt is not None else []
    if prompt is None and not files:
        parts = [read_stdin()]
    for path in files:
        text = read_stdin() if str(path) == "-" else path.read_text("utf-8", errors="replace")
        parts.append(text.removesuffix("\n"))
    whole = "\n\n".join(part for part in parts if part)
    if not whole:
        raise InvalidOptionError("the prompt is empty", hint="Give it as an argument or on stdin.")
    return whole


def _model_and_prompt(
    first: str | None, second: str | None, model: str | None
) -> tuple[str | None, str | None]:
    """Tell model and prompt apart; a prompt of None means standard input, or files."""
    from .runtime import read_stdin

    name: str | None
    prompt: str | None
    if model is not None:
        if second is not None:
            raise InvalidOptionError(
                "two prompts were given beside --model", hint="Quote the prompt as one argument."
            )
        name, prompt = model, first
    elif second is not None:
        name, prompt = first, second
    elif first is not None and _names_a_model(first):
        name, prompt = first, None
    else:
        name, prompt = None, first
    return name, read_stdin() if prompt == "-" else prompt


def _names_a_model(text: str) -> bool:
    from ..catalog import find_model
    from ..errors import ModelNotFoundError

    if text.endswith(".gguf"):
        return True
    try:
        return "\n" not in text and find_model(text).is_file()
    except (ModelNotFoundError, OSError, ValueError):
        return False
