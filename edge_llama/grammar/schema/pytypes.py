"""Python types as schemas, and values as their objects: by pydantic, or without it by hand.

By hand are: dataclasses, TypedDict, Enum, Literal, unions, list, tuple, dict with string keys,
str, int, float, bool, None, date, time, datetime, UUID, Any, Annotated, and types nested in these.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import re
import types
import typing
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from ...errors import GrammarError, InvalidOutputError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    None: {"type": "null"},
    type(None): {"type": "null"},
    Any: {},
    dict: {"type": "object"},
    list: {"type": "array"},
}
_TEXTUAL: dict[Any, tuple[str, Callable[[str], Any]]] = {
    dt.datetime: ("date-time", lambda text: dt.datetime.fromisoformat(_plain(text))),
    dt.date: ("date", dt.date.fromisoformat),
    dt.time: ("time", lambda text: dt.time.fromisoformat(_plain(text))),
    uuid.UUID: ("uuid", uuid.UUID),
}


def schema_of(kind: Any) -> dict[str, Any]:
    """Return the schema of a type.

    Raises:
        GrammarError: it, or a type inside it, cannot be said.
    """
    adapter = _adapter(kind)
    if adapter is None:
        return _Schemas().whole(kind)
    try:
        schema: dict[str, Any] = adapter.json_schema()
    except Exception as error:  # noqa: BLE001 - what pydantic raises is many
        raise _unknown(kind, one_line(str(error))) from None
    return schema


def to_object(kind: Any, value: Any, text: str) -> Any:
    """Return the object of type ``kind`` for a value that fits its schema.

    Raises:
        InvalidOutputError: the type refuses it, for example by a validator of its own.
    """
    adapter = _adapter(kind)
    try:
        return _build(kind, value) if adapter is None else adapter.validate_python(value)
    except Exception as error:  # a type's own code may raise anything
        raise InvalidOutputError(
            f"{_name(kind)} refuses the value: {one_line(str(error))}",
            hint="Say in the schema what the type asks for, or correct the text.",
            text=text,
        ) from error


def _adapter(kind: Any) -> Any:
    """Return pydantic's adapter; None if it is not installed, or cannot do this type."""
    try:
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError
    except ImportError:
        return None
    try:
        return TypeAdapter(kind)
    except PydanticUserError:
        return None  # typing.TypedDict before Python 3.12


def _plain(text: str) -> str:
    """Return a time as Python 3.10 can read it: no Z, six digits of a second's fraction."""
    padded = re.sub(r"\.([0-9]+)", lambda found: f".{found[1]:0<6.6}", text)
    return padded.replace("Z", "+00:00")


def _name(kind: Any) -> str:
    return one_line(getattr(kind, "__name__", None) or str(kind), 80)


def _unknown(kind: Any, why: str) -> GrammarError:
    return GrammarError(
        f"the type {_name(kind)} has no schema: {why}",
        hint="Use dataclasses, TypedDict, Enum, Literal, list, tuple, dict[str, ...], str, int, "
        "float, bool, None, datetime and UUID, or install pydantic.",
    )


def _fields(kind: Any) -> tuple[dict[str, Any], set[str]] | None:
    """Return a record's fields and which are required; None for other types."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        fields = [field for field in dataclasses.fields(kind) if field.init]
        needed = {
            field.name
            for field in fields
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }
        return {field.name: hints[field.name] for field in fields}, needed
    if isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__required_keys__"):
        return typing.get_type_hints(kind), set(kind.__required_keys__)
    return None


class _Schemas:
    def __init__(self) -> None:
        self._names: dict[Any, str] = {}
        self._defs: dict[str, Any] = {}

    def whole(self, kind: Any) -> dict[str, Any]:
        schema = self.of(kind)
        return {**schema, "$defs": self._defs} if self._defs else schema

    def of(self, kind: Any) -> dict[str, Any]:  # noqa: C901, PLR0911 - one branch per kind
        try:
            if kind in _PLAIN:
                return dict(_PLAIN[kind])
            if kind in _TEXTUAL:
                return {"type": "string", "format": _TEXTUAL[kind][0]}
        except TypeError:
            raise _unknown(kind, "it is no type") from None
        origin, args = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return self.of(args[0])
        if origin is Literal:
            return {"enum": list(args)}
        if origin in (Union, types.UnionType):
            return {"anyOf": [self.of(arg) for arg in args]}
        if origin is list:
            return {"type": "array", "items": self.of(args[0])}
        if origin is dict and args[0] is str:
            return {"type": "object", "additionalProperties": self.of(args[1])}
        if origin is tuple:
            return self._tuple(args)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return {"enum": [member.value for member in kind]}
        return self._record(kind)

    def _tuple(self, args: tuple[Any, ...]) -> dict[str, Any]:
        if len(args) == 2 and args[1] is Ellipsis:
            return {"type": "array", "items": self.of(args[0])}
        count = len(args)
        first = {"prefixItems": [self.of(arg) for arg in args]} if args else {}
        return {"type": "array", **first, "minItems": count, "maxItems": count}

    def _record(self, kind: Any) -> dict[str, Any]:
        found = _fields(kind)
        if found is None:
            raise _unknown(kind, "it is none of those that are known without pydantic")
        if kind not in self._names:
            name = kind.__name__
            while name in self._defs:
                name += "_"
            self._names[kind] = name
            self._defs[name] = {}
            fields, needed = found
            self._defs[name] = {
                "type": "object",
                "properties": {field: self.of(hint) for field, hint in fields.items()},
                "required": [field for field in fields if field in needed],
                "additionalProperties": False,
            }
        return {"$ref": f"#/$defs/{self._names[kind]}"}


def _build(kind: Any, value: Any) -> Any:  # noqa: PLR0911 - one line per kind of type
    if kind in _PLAIN:
        return float(value) if kind is float else value
    if kind in _TEXTUAL:
        return _TEXTUAL[kind][1](value)
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _build(args[0], value)
    if origin is Literal:
        return value
    if origin in (Union, types.UnionType):
        return _any_of(args, value)
    if origin is list:
        return [_build(args[0], one) for one in value]
    if origin is dict:
        return {key: _build(args[1], one) for key, one in value.items()}
    if origin is tuple:
        kinds = [args[0]] * len(value) if args[1:] == (Ellipsis,) else args
        return tuple(_build(one, item) for one, item in zip(kinds, value, strict=True))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    fields, _ = _fields(kind) or ({}, set())
    built = {name: _build(fields[name], one) for name, one in value.items()}
    return built if isinstance(kind, type) and issubclass(kind, dict) else kind(**built)


def _any_of(kinds: tuple[Any, ...], value: Any) -> Any:
    """Return the object of the first type that the value fits."""
    from .document import Document, load
    from .validate import Validator

    for kind in kinds:
        document = Document(load(_Schemas().whole(kind)))
        if Validator(document).fault(value) is None:
            return _build(kind, value)
    raise ValueError("it fits none of the types")
