"""Dataclasses as JSON and back, by their own type hints.

Nothing is executed: what is read is checked against the type that is expected, field by field, so
that a child in which a hostile file has taken over can send nothing but plain values.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .. import errors
from ..ask import Ask, Conversation
from ..config import KVCacheType, ModelConfig
from ..generate import Reply
from ..hardware import ProcessMemory
from ..logprobs import TokenLogprob
from ..memory import MemoryPlan, MemoryReceipt, MemoryUse
from ..messages import Message
from ..sampling import Sampling
from .frames import ProtocolError

#: Where a grammar's notations are declared; they are loaded when one is used.
_SOURCES = {
    "ChoiceSource": "plain",
    "GbnfSource": "gbnf",
    "LarkSource": "larktext",
    "RegexSource": "plain",
    "SchemaSource": "schema",
    "TemplateSource": "template",
}
_WIRE_TYPES = (
    *(Ask, Conversation, MemoryPlan, MemoryReceipt, MemoryUse, Message, ModelConfig),
    *(ProcessMemory, Reply, Sampling, TokenLogprob),
)


def encode(value: Any) -> Any:
    """Return a dataclass, or what may be in one, as JSON values.

    A field of type Any stays behind: it is of no use in another process.
    """
    if dataclasses.is_dataclass(value):
        fields = {
            field.name: None if field.type == "Any" else encode(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
        # Which notation a grammar has must be said: its type is only what all have in common.
        name = type(value).__name__
        return {"name": name, "source": fields} if name in _SOURCES else fields
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{type(value).__name__} cannot be sent to another process")


def decode(kind: Any, data: Any) -> Any:
    """Return ``data`` as ``kind``: a dataclass, a simple type, or a tuple or union of such.

    Raises:
        ProtocolError: it is something else.
    """
    if kind in _SIMPLE:
        return _decode_simple(kind, data)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data)
    if getattr(kind, "__name__", "") == "Source":
        return _decode_source(data)
    arguments, origin = get_args(kind), get_origin(kind)
    if origin is Literal:
        fits = any(data == one and type(data) is type(one) for one in arguments)
        return _checked(kind, data, fits)
    if origin in {Union, types.UnionType}:
        return _first(arguments, data)
    return _decode_items(kind, data)


_SIMPLE = (Any, bool, bytes, float, int, str, types.NoneType)


def _decode_simple(kind: Any, data: Any) -> Any:
    if kind is Any:
        return None
    if kind is bytes:
        return _decode_simple(str, data).encode("latin-1", errors="replace")
    if kind is float and type(data) is int:
        return float(data)
    return _checked(kind, data, type(data) is kind)


def _decode_items(kind: Any, data: Any) -> Any:
    arguments, origin = get_args(kind), get_origin(kind)
    _checked(kind, data, origin in {tuple, list} and isinstance(data, list))
    if origin is list or arguments[-1:] == (...,):
        items = [decode(arguments[0], item) for item in data]
        return items if origin is list else tuple(items)
    _checked(kind, data, len(data) == len(arguments))
    return tuple(decode(one, item) for one, item in zip(arguments, data, strict=True))


def _first(kinds: tuple[Any, ...], data: Any) -> Any:
    for kind in kinds:
        if get_origin(kind) is not Mapping:
            try:
                return decode(kind, data)
            except ProtocolError:
                continue
    raise ProtocolError(f"{data!r:.40} is none of {kinds}")


def _checked(kind: Any, data: Any, fits: object) -> Any:
    if not fits:
        raise ProtocolError(f"{data!r:.40} is no {kind}")
    return data


def _decode_dataclass(kind: Any, data: Any) -> Any:
    hints = _hints(kind)
    _checked(kind, data, isinstance(data, dict) and data.keys() == hints.keys())
    try:
        return kind(**{name: decode(hint, data[name]) for name, hint in hints.items()})
    except errors.EdgeLlamaError as error:  # it checks its own values
        raise ProtocolError(str(error)) from error


def _decode_source(data: Any) -> Any:
    name = str(data.get("name")) if isinstance(data, dict) else ""
    _checked("Source", data, name in _SOURCES)
    module = importlib.import_module(f"...grammar.{_SOURCES[name]}", __name__)
    return decode(getattr(module, name), data["source"])


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """Return the types of a dataclass's fields."""
    names: dict[str, Any] = {one.__name__: one for one in _WIRE_TYPES}
    names |= {"KVCacheType": KVCacheType}
    if kind is Ask or kind is Reply or kind.__module__.startswith(f"{_PACKAGE}.grammar"):
        from ..grammar import Grammar
        from ..grammar.source import Source

        names |= {"Grammar": Grammar, "Source": Source}
    hints = get_type_hints(kind, localns=names)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


_PACKAGE = __name__.split(".", maxsplit=1)[0]


def encode_error(error: BaseException) -> dict[str, Any]:
    """Return an error of ours with its message, hint and fields; of another one the text."""
    if isinstance(error, errors.EdgeLlamaError):
        fields = {name: encode(value) for name, value in vars(error).items() if name[0] != "_"}
        return {"type": type(error).__name__, "message": str(error), "fields": fields}
    text = errors.one_line(f"{type(error).__name__}: {error}")
    return {"type": "BackendError", "message": text, "fields": {"hint": _OUR_FAULT}}


_OUR_FAULT = "This is a fault of edge-llama, not of yours; please report it."


def decode_error(data: Any) -> errors.EdgeLlamaError:
    """Return the error that :func:`encode_error` described.

    Raises:
        ProtocolError: it is none.
    """
    try:
        kind, message, fields = data["type"], decode(str, data["message"]), data["fields"]
        known = {name: one for name, one in vars(errors).items() if isinstance(one, type)}
        if not issubclass(known[kind], errors.EdgeLlamaError):
            raise ProtocolError(f"{kind} is no error")
        plain = {decode(str, name): decode(_FIELD, value) for name, value in fields.items()}
        found: errors.EdgeLlamaError = known[kind](message, **plain)
    except (AttributeError, KeyError, TypeError) as error:
        raise ProtocolError(f"{data!r:.40} is no error") from error
    return found


_FIELD = str | int | float | None
