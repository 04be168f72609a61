"""Options that several commands share; names, defaults and help come from the config classes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import json
import shlex
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ..config import ModelConfig
from ..errors import InvalidOptionError
from ..sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable


def _model_names(incomplete: str) -> list[str]:
    """Complete the name of a model for the shell, which completes paths itself."""
    from ..catalog import list_models

    return [entry.name for entry in list_models() if entry.name.startswith(incomplete)]


RequiredModel = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A GGUF file, or a name that edge-llama models lists.",
        autocompletion=_model_names,
    ),
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

ModelName = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        help="A GGUF file, or a name that edge-llama models lists; by default the embedded "
        "SmolLM2-135M.",
        autocompletion=_model_names,
    ),
]

#: The fields of ModelConfig that are options of the command line, and their flags.
_MODEL_FLAGS = {
    "memory": ("--memory",),
    "n_ctx": ("--ctx", "-c"),
    "kv_type": ("--kv-type",),
    "overflow": ("--overflow",),
    "state_dir": ("--state-dir",),
    "flash_attention": ("--flash-attention",),
    "repack": ("--repack",),
    "device": ("--device",),
    "gpu_layers": ("--gpu-layers", "-ngl"),
    "threads": ("--threads", "-t"),
    "mlock": ("--mlock",),
    "numa": ("--numa",),
    "rope_scaling": ("--rope-scaling",),
    "rope_factor": ("--rope-factor",),
    "rope_freq_base": ("--rope-freq-base",),
    "yarn_orig_ctx": ("--yarn-orig-ctx",),
    "yarn_beta_fast": ("--yarn-beta-fast",),
    "yarn_beta_slow": ("--yarn-beta-slow",),
    "isolate": ("--isolate",),
}
#: Of these, the ones that say how a model is computed, for commands that measure it.
_COMPUTE_FLAGS = {
    name: flags
    for name, flags in _MODEL_FLAGS.items()
    if name not in {"memory", "n_ctx", "overflow", "state_dir", "mlock", "numa"}
}
#: Every field of Sampling is an option, called like it but for these.
_SAMPLING_FLAGS = {
    field.name: (f"--{field.name.replace('_', '-')}",) for field in dataclasses.fields(Sampling)
} | {
    "temperature": ("--temperature", "--temp"),
    "seed": ("--seed", "-s"),
    "dry_sequence_breakers": ("--dry-sequence-breaker",),
    "jump_ahead": ("--jump-ahead/--no-jump-ahead",),
}


def _unescape(text: str) -> str:
    # A shell passes "\\n" as two characters; nobody means a backslash and an n.
    return text.replace("\\n", "\n").replace("\\t", "\t")


def _bias(text: str) -> tuple[int | str, float]:
    """Read TOKEN=BIAS: digits are a token's id, anything else is text; JSON quotes are taken off.

    Raises:
        InvalidOptionError: it is not of that form.
    """
    token, _, bias = text.rpartition("=")
    try:
        if token.startswith('"'):
            token = json.loads(token)
        elif token.isdecimal():
            return int(token), float(bias)
        return _unescape(token), float(bias)
    except ValueError as error:
        raise InvalidOptionError(
            f"logit_bias = {text!r} is not possible",
            hint="Use TOKEN=BIAS, e.g. 28=-2, ' Hello'=1.5, '\"28\"'=-inf.",
        ) from error


#: Fields that hold several values: typer knows lists of text, each of which is read by this.
_READERS: dict[str, Callable[[list[str]], Any]] = {
    "stop": lambda texts: [_unescape(text) for text in texts],
    "samplers": lambda texts: [name for text in texts for name in text.split(";") if name],
    "dry_sequence_breakers": lambda texts: [_unescape(text) for text in texts if text != "none"],
    "logit_bias": lambda texts: tuple(_bias(text) for text in texts),
}
_METAVARS = {"samplers": "NAME;NAME...", "logit_bias": "TOKEN=BIAS"}
#: Fields that are a number or a word, as typer knows no unions; and a word that has a better error
#: than typer's.
_TEXTS = {"memory": str | None, "gpu_layers": str, "rope_scaling": str}


#: The options of sampling by field, and what they do.
SAMPLING_NAMES = {field.name: field.metadata["help"] for field in dataclasses.fields(Sampling)}


def sampling_field(name: str) -> dataclasses.Field[Any]:
    """Return the field that an option is called by, as a field or as a flag with or without dashes.

    Raises:
        InvalidOptionError: there is none.
    """
    wanted = name.lstrip("-").replace("_", "-")
    for field in dataclasses.fields(Sampling):
        flags = [flag.lstrip("-") for flag in _SAMPLING_FLAGS[field.name] if len(flag) > 2]
        if wanted in {*flags, field.name.replace("_", "-")}:
            return field
    known = ", ".join(field.replace("_", "-") for field in SAMPLING_NAMES)
    raise InvalidOptionError(f"there is no option {name!r}", hint=f"There is: {known}.")


def with_sampling(sampling: Sampling, name: str, text: str) -> Sampling:
    """Return ``sampling`` with one option read from ``text`` as the command line does.

    "default" takes a choice back; several texts are divided as in a shell.

    Raises:
        InvalidOptionError: there is no such option, or the value is not possible.
    """
    field = sampling_field(name)
    value: Any = text
    if text == "default":
        value = field.default
    elif field.name in _READERS:
        try:
            value = _READERS[field.name](shlex.split(text))
        except ValueError as error:
            raise InvalidOptionError(
                f"{field.name} = {text!r} is not possible", hint="Close the quotes."
            ) from error
    else:
        for number in (int, float):
            with contextlib.suppress(ValueError):
                value = number(text)
                break
    return dataclasses.replace(sampling, **{field.name: value})


def _parameters(cls: type[Any], flags: dict[str, tuple[str, ...]]) -> list[inspect.Parameter]:
    """Return a typer option for each field named in ``flags``."""
    hints = get_type_hints(cls) | dict.fromkeys(_READERS, list[str]) | _TEXTS
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=[] if field.name in _READERS else field.default,
            annotation=Annotated[
                hints[field.name],
                typer.Option(
                    *flags[field.name],
                    help=field.metadata["help"],
                    metavar=_METAVARS.get(field.name),
                    show_default=_shown_default(field),
                    rich_help_panel=field.metadata.get("group"),
                ),
            ],
        )
        for field in dataclasses.fields(cls)
        if field.name in flags
    ]


def _shown_default(field: dataclasses.Field[Any]) -> str | bool:
    """Return what --help says about the default: None hides what is used in its place."""
    fallback = field.metadata.get("fallback")
    if fallback is None:
        return True
    if field.name == "samplers":
        fallback = ";".join(fallback)
    elif isinstance(fallback, tuple):
        fallback = " ".join(json.dumps(text) for text in fallback)
    else:
        fallback = f"{fallback:g}"
    return f"the model's, else {fallback}" if field.metadata["key"] else str(fallback)


def _number_or_text(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _config(options: dict[str, Any]) -> ModelConfig:
    return ModelConfig(**{**options, "gpu_layers": _number_or_text(options["gpu_layers"])})


def _with_options(
    command: Callable[..., None], run: Callable[..., None], shared: list[inspect.Parameter]
) -> Callable[..., None]:
    """Return ``run`` with the command's own options, less what it is given, and the shared ones."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    kept = [parameter for parameter in own if parameter.name not in {"config", "sampling"}]
    parameters = [*kept, *shared]
    functools.update_wrapper(run, command)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def measures_model(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options for how a model is computed, as the keyword ``config``."""

    def run(**values: Any) -> None:
        config = _config({name: values.pop(name) for name in _COMPUTE_FLAGS})
        command(**values, config=config)

    return _with_options(command, run, _parameters(ModelConfig, _COMPUTE_FLAGS))


def runs_model(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command all options for running a model.

    It gets them as the keywords ``config``, a ModelConfig, and ``sampling``, a Sampling; on the
    command line there is an option for each field instead. ``defaults`` are the command's own.
    """
    shared = [
        parameter.replace(default=defaults.get(parameter.name, parameter.default))
        for cls, flags in ((ModelConfig, _MODEL_FLAGS), (Sampling, _SAMPLING_FLAGS))
        for parameter in _parameters(cls, flags)
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(**values: Any) -> None:
            config = _config({name: values.pop(name) for name in _MODEL_FLAGS})
            chosen = {name: values.pop(name) for name in _SAMPLING_FLAGS}
            for name, read in _READERS.items():
                texts = chosen.pop(name)
                if texts:
                    chosen[name] = read(texts)
            command(**values, config=config, sampling=Sampling(**chosen))

        return _with_options(command, run, shared)

    return decorate
