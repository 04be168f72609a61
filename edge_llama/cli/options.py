"""Options that several commands share; names, defaults and help come from the config classes."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ..config import ModelConfig, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

ModelName = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        help="A GGUF file, or the name of one in models/; by default the embedded SmolLM2-135M.",
    ),
]

#: The fields that are options of the command line, and their flags.
_MODEL_FLAGS = {
    "n_ctx": ("--ctx", "-c"),
    "threads": ("--threads", "-t"),
    "kv_type": ("--kv-type",),
    "overflow": ("--overflow",),
}
_SAMPLING_FLAGS = {
    "temperature": ("--temperature", "--temp"),
    "top_k": ("--top-k",),
    "top_p": ("--top-p",),
    "min_p": ("--min-p",),
    "repeat_penalty": ("--repeat-penalty",),
    "seed": ("--seed", "-s"),
    "max_tokens": ("--max-tokens", "-n"),
    "stop": ("--stop",),
}


def _parameters(cls: type[Any], flags: dict[str, tuple[str, ...]]) -> list[inspect.Parameter]:
    """Return a typer option for each field named in ``flags``."""
    hints = get_type_hints(cls)
    hints["stop"] = list[str]  # typer knows lists, not tuples of any length
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=[] if field.name == "stop" else field.default,
            annotation=Annotated[
                hints[field.name], typer.Option(*flags[field.name], help=field.metadata["help"])
            ],
        )
        for field in dataclasses.fields(cls)
        if field.name in flags
    ]


def runs_model(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all options for running a model.

    It gets them as the keywords ``config``, a ModelConfig, and ``sampling``, a Sampling; on the
    command line there is an option for each field instead.
    """
    own = inspect.signature(command, eval_str=True).parameters.values()
    kept = [parameter for parameter in own if parameter.name not in {"config", "sampling"}]
    shared = _parameters(ModelConfig, _MODEL_FLAGS) + _parameters(Sampling, _SAMPLING_FLAGS)

    @functools.wraps(command)
    def run(**values: Any) -> None:
        config = ModelConfig(**{name: values.pop(name) for name in _MODEL_FLAGS})
        chosen = {name: values.pop(name) for name in _SAMPLING_FLAGS}
        # A shell passes "\n" as two characters; nobody means a backslash and an n.
        stop = [text.replace("\\n", "\n").replace("\\t", "\t") for text in chosen.pop("stop")]
        command(**values, config=config, sampling=Sampling(**chosen, stop=tuple(stop)))

    parameters = [*kept, *shared]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
