"""JSON Schema as a source of grammars, and the values that come of it."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InvalidOutputError, one_line
from ..cfg import Cfg, Opaque, Ref
from ..charset import DIGITS, NONE, CharSet
from ..recognise import checked_text, incomplete
from .document import DERIVED, Document, fault, load
from .model import AnyJson, Numbers, Union, Values
from .options import JsonOptions
from .productive import prune
from .pytypes import schema_of, to_object
from .reader import Reader
from .writer import Writer

if TYPE_CHECKING:
    from ..lark import LarkText
    from .model import Key, Node

_BEGINS = CharSet.chars('{["-0123456789tfn')
_NUMBER = CharSet.chars("0123456789.eE")


@dataclass(frozen=True)
class SchemaSource:
    """A schema as JSON text, how it is written, and the Python type it was made from."""

    schema: str
    options: JsonOptions = JsonOptions()
    type: Any = None

    checkable = True
    spaced = True

    @classmethod
    def of(cls, schema: object, options: JsonOptions) -> SchemaSource:
        """Return the source for a dict, JSON text, a file, or a type."""
        kind = None
        if not isinstance(schema, dict | str | bytes | int | float | list | Path | None):
            kind, schema = schema, schema_of(schema)
        found = cls(load(schema), options, kind)
        found.reader()  # so that mistakes show at once
        return found

    def reader(self) -> Reader:
        """Return the nodes of the schema.

        Raises:
            GrammarError: the schema is malformed, asks for what is not enforced, or nothing fits.
        """
        return _read(self.schema, self.options)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """The JSON paths of what is left to :meth:`value`."""
        return tuple(self.reader().unchecked)

    def lower(self, lark: LarkText) -> str:
        """Add its rules."""
        return Writer(self.reader(), lark).start()

    def part(self) -> Cfg:
        """Return it as something that writes itself."""
        reader = self.reader()
        leaf = Opaque(self, _BEGINS, _goes_on(reader, reader.root, set()))
        return Cfg({"json": leaf, "root": Ref("json")}, "root")

    def value(self, text: str) -> Any:
        """Return the value of ``text``, validated; an object of the type if there is one."""
        from .validate import Validator

        value = self._loads(text)
        try:
            wrong = Validator(self.reader().document).fault(value)
        except RecursionError:
            wrong = ("$", "it is nested too deeply to be checked")
        if wrong is not None:
            path, message = wrong
            raise InvalidOutputError(
                f"{path}: {one_line(message)}",
                hint="Generate it with this grammar, or correct the text.",
                text=text,
                path=path,
            )
        return value if self.type is None else to_object(self.type, value, text)

    def _loads(self, text: str) -> Any:
        try:
            return json.loads(text, parse_constant=_no_constant)
        except RecursionError:
            reason = "it is nested too deeply"
        except ValueError as error:
            reason = str(error)
        checked_text(self, text)  # says whether it ends too early or goes wrong
        if text.rstrip() != text:
            raise incomplete(text)
        raise InvalidOutputError(
            f"the text is no JSON: {one_line(reason)}",
            hint="Generate it with this grammar, or correct the text.",
            text=text,
        )


def _goes_on(reader: Reader, option: Node | Key, seen: set[Key]) -> CharSet:
    """Return the characters that a value at the top could go on with: digits after a number."""
    node: Node | None
    if isinstance(option, tuple):
        if option in seen:
            return NONE
        seen.add(option)
        node = reader.nodes.get(option)
    else:
        node = option
    if isinstance(node, Union):
        found = NONE
        for one in node.options:
            found |= _goes_on(reader, one, seen)
        return found
    if isinstance(node, Numbers):
        return DIGITS if node.integer else _NUMBER
    numeric = isinstance(node, Values) and any(isinstance(v, int | float) for v in node.values)
    return _NUMBER if numeric or isinstance(node, AnyJson) else NONE


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


@functools.lru_cache(maxsize=64)
def _read(schema: str, options: JsonOptions) -> Reader:
    reader = Reader(Document(schema), options)
    reader.read()
    prune(reader)
    if reader.nodes[reader.root] is None:
        reason = reader.reasons.get(reader.root, "")
        path, _, why = reason.partition(": ")
        raise fault(
            path.partition(DERIVED)[0] or "$", f"nothing fits: {why or 'it never comes to an end'}"
        )
    return reader
