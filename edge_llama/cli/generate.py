"""``edge-llama generate``: one prompt, one answer, for pipes and scripts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import ModelConfig
from ..errors import InvalidOptionError
from ..sampling import Sampling
from . import console, options

if TYPE_CHECKING:
    from ..generate import Reply
    from ..logprobs import TokenLogprob


@options.runs_model
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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with text, counts and timings.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text itself, without the chat template.")
    ] = False,
    system: Annotated[str | None, typer.Option("--system", help="A system prompt.")] = None,
    *,
    config: ModelConfig,
    sampling: Sampling,
) -> None:
    """Answer one prompt; the answer and nothing else goes to standard output.

    With one argument it is the prompt and the embedded model answers; a name that ends in
    .gguf or lies in models/ is taken as the model, with the prompt on standard input.
    """
    from .memory import memory_facts
    from .runtime import (
        dropped,
        open_model,
        read_stdin,
        show_logprobs,
        show_memory,
        write_stream,
    )

    name, prompt = _model_and_prompt(first, second, model)
    if raw and system is not None:
        raise InvalidOptionError("--raw and --system exclude each other", hint="Drop one of them.")
    if prompt is None:
        prompt = read_stdin()
    if not prompt:
        raise InvalidOptionError("the prompt is empty", hint="Give it as an argument or on stdin.")
    started = time.perf_counter()
    with open_model(name, config) as opened:
        load_seconds = time.perf_counter() - started
        if system is not None:
            stream = opened.chat(system=system).stream(prompt, sampling=sampling)
        else:
            stream = opened.stream(prompt, sampling=sampling, raw=raw)
        if not as_json:
            reply = write_stream(stream)
            console.write("\n")
            show_logprobs(reply)
            for line in dropped(reply):
                console.note(f"({line})")
            if console.is_verbose():
                show_memory(opened)
            return
        with stream:
            reply = stream.reply
        console.write_json(
            {
                "model": str(opened.info.path),
                "text": reply.text,
                "finish_reason": reply.finish_reason,
                "seed": reply.seed,
                **({} if sampling.logprobs is None else {"logprobs": _logprobs(reply)}),
                "usage": {
                    "prompt_tokens": reply.prompt_tokens,
                    "completion_tokens": reply.completion_tokens,
                    "context": reply.n_ctx,
                    "dropped_tokens": reply.dropped_tokens,
                },
                "timings": {
                    "load_seconds": round(load_seconds, 4),
                    "prefill_seconds": round(reply.prefill_seconds, 4),
                    "decode_seconds": round(reply.decode_seconds, 4),
                    "prefill_tokens_per_second": round(reply.prefill_tokens_per_second, 2),
                    "tokens_per_second": round(reply.tokens_per_second, 2),
                },
                "memory": memory_facts(opened.memory()),
            }
        )


def _logprobs(reply: Reply) -> list[dict[str, Any]]:
    """Return the log probabilities in the form of the JSON output."""

    def entry(one: TokenLogprob) -> dict[str, Any]:
        return {"token": one.token, "text": one.text, "logprob": round(one.logprob, 6)}

    return [{**entry(one), "top": [entry(other) for other in one.top]} for one in reply.logprobs]


def _model_and_prompt(
    first: str | None, second: str | None, model: str | None
) -> tuple[str | None, str | None]:
    """Tell model and prompt apart; a prompt of None means standard input."""
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
    return name, None if prompt == "-" else prompt


def _names_a_model(text: str) -> bool:
    from ..catalog import find_model
    from ..errors import ModelNotFoundError

    if text.endswith(".gguf"):
        return True
    try:
        return "\n" not in text and find_model(text).is_file()
    except (ModelNotFoundError, OSError, ValueError):
        return False
