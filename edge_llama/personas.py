"""Personas: a system prompt, sampling and a schema under a name, each a JSON file to edit.

    {"system": ["You are a pirate.", "Be brief."], "sampling": {"temperature": 0.9}}

``system`` is a text or a list of its lines. All keys may be left out: ``model`` and ``schema`` (a
JSON Schema file) are the others.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import HistoryError, InvalidOptionError, one_line
from .folders import config_folder
from .rules import with_options
from .sampling import Sampling
from .textfile import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NAME = re.compile(r"\w[\w.-]{0,63}")
#: Most bytes of a file that are read.
_MAX_BYTES = 1 << 20
_KEYS = ("system", "sampling", "model", "schema")


@dataclass(frozen=True, kw_only=True)
class Persona:
    """How to talk: what a chat begins with.

    Attributes:
        system: the system prompt.
        sampling: how tokens are chosen; what is None is left to the model.
        model: a model's path or name, None for whichever is used.
        schema: path of a JSON Schema that answers follow.
    """

    system: str | None = None
    sampling: Sampling = Sampling()
    model: str | None = None
    schema: str | None = None


def folder() -> Path:
    """Return the folder of the personas' files."""
    return config_folder() / "personas"


def path_of(name: str) -> Path:
    """Return the file of a persona, which need not be there; HistoryError for no possible name."""
    if not _NAME.fullmatch(name):
        raise HistoryError(
            f"{one_line(name)!r} is no name for a persona",
            hint="Use letters, digits, dots, dashes and underscores.",
        )
    return folder() / f"{name}.json"


def names() -> list[str]:
    """Return the names of all personas."""
    return sorted(path.stem for path in folder().glob("*.json") if _NAME.fullmatch(path.stem))


def load(name: str) -> Persona:
    """Read a persona.

    Raises:
        HistoryError: there is none of that name, or its file cannot be used.
    """
    path = path_of(name)
    try:
        with path.open("rb") as file:
            return from_values(json.loads(file.read(_MAX_BYTES)))
    except FileNotFoundError as error:
        known = ", ".join(names())
        raise HistoryError(
            f"there is no persona called {name}",
            hint=f"There is: {known}."
            if known
            else f'Make one: edge-llama persona save {name} --system "You are..."',
        ) from error
    except OSError as error:
        raise HistoryError(
            f"{path}: {error.strerror or error}", hint="Check the file and its permissions."
        ) from error
    except InvalidOptionError as error:
        raise HistoryError(f"{path}: {error}", hint=error.hint) from error
    except (ValueError, RecursionError) as error:
        raise HistoryError(
            f"{path}: not valid JSON: {one_line(str(error))}",
            hint="Mend it in an editor, or save the persona anew.",
        ) from error


def save(name: str, persona: Persona) -> Path:
    """Write a persona, in place of any of that name, and return its file; else HistoryError."""
    path = path_of(name)
    text = json.dumps(to_values(persona), ensure_ascii=False, indent=2) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_text(path, text)
    except OSError as error:
        raise HistoryError(
            f"{path}: {error.strerror or error}", hint="Check the folder and its permissions."
        ) from error
    return path


def delete(name: str) -> None:
    """Remove a persona; HistoryError if there is none."""
    path = path_of(name)
    try:
        path.unlink()
    except OSError as error:
        raise HistoryError(
            f"{path}: {error.strerror or error}",
            hint="List them with: edge-llama persona",
        ) from error


def to_values(persona: Persona) -> dict[str, Any]:
    """Return a persona as JSON values, without what is not set."""
    lines = (persona.system or "").split("\n")
    values = {
        "system": lines if len(lines) > 1 else persona.system,
        "sampling": sampling_values(persona.sampling),
        "model": persona.model,
        "schema": persona.schema,
    }
    return {key: value for key, value in values.items() if value not in (None, {})}


def sampling_values(sampling: Sampling) -> dict[str, Any]:
    """Return the fields of a Sampling that are set."""
    return {
        field.name: getattr(sampling, field.name)
        for field in dataclasses.fields(sampling)
        if getattr(sampling, field.name) != field.default
    }


def from_values(values: Any) -> Persona:
    """Read a persona from JSON values, checked; InvalidOptionError names what is wrong."""
    if not isinstance(values, dict):
        raise InvalidOptionError("a persona is a JSON object", hint='Use e.g. {"system": "..."}.')
    for key, value in values.items():
        if key not in _KEYS:
            raise InvalidOptionError(
                f"unknown key {one_line(str(key))!r}", hint=f"Known keys: {', '.join(_KEYS)}."
            )
        if key in {"model", "schema"} and not isinstance(value, str):
            raise InvalidOptionError(f"{key} is not a text", hint="Write it in quotes.")
    system = values.get("system")
    if isinstance(system, list) and all(isinstance(line, str) for line in system):
        system = "\n".join(system)
    if not isinstance(system, str | None):
        raise InvalidOptionError("system is not a text", hint="Use a text or a list of lines.")
    return Persona(
        system=system,
        sampling=_sampling(values.get("sampling", {})),
        model=values.get("model"),
        schema=values.get("schema"),
    )


def _sampling(values: Any) -> Sampling:
    if not isinstance(values, dict):
        raise InvalidOptionError("sampling is not an object", hint='Use e.g. {"top_k": 20}.')
    pairs: Mapping[str, Any] = {
        key: tuple(tuple(one) if isinstance(one, list) else one for one in value)
        if isinstance(value, list)
        else value
        for key, value in values.items()
    }
    return with_options(Sampling(), pairs)
