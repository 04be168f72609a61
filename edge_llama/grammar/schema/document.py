"""A schema document: read from what people have, bounded, references resolved inside it only."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from ...errors import GrammarError, one_line
from ..bounds import MAX_DEPTH, MAX_TEXT, too_large

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLAIN = re.compile(r"[A-Za-z_$][\w$-]*", re.ASCII)
#: Schemas (objects and booleans) in a document.
_MAX_SCHEMAS = 20_000


#: In the path of a schema that was made out of another one.
DERIVED = "\0"


class Member(NamedTuple):
    """A schema and where it stands; one of several that hold together."""

    schema: Any
    path: str

    def at(self, *keys: str | int) -> Member:
        """Return the schema below."""
        schema, path = self.schema, self.path
        for key in keys:
            schema, path = schema[key], step(path, key)
        return Member(schema, path)


def step(path: str, key: str | int) -> str:
    """Return the JSON path one step below ``path``."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if _PLAIN.fullmatch(key) else f"{path}[{json.dumps(key)}]"


def fault(member_path: str, what: str, hint: str = "Correct the schema.") -> GrammarError:
    """Return the error for a schema at a path."""
    path = member_path.partition(DERIVED)[0]
    return GrammarError(f"{one_line(path)}: {one_line(what)}", hint=hint, path=path)


def load(schema: object) -> str:
    """Return a schema as JSON text, from a dict, JSON text or a file; an envelope is opened.

    The envelope is OpenAI's ``response_format``: ``{"type": "json_schema", "json_schema":
    {"schema": ...}}``.

    Raises:
        GrammarError: it is no JSON, too large, or too deep.
    """
    name = "$"
    if isinstance(schema, Path):
        name = str(schema)
        try:
            with schema.open("rb") as file:
                schema = file.read(MAX_TEXT + 1)
        except OSError as error:
            raise GrammarError(
                f"{name}: the schema cannot be read: {error.strerror}", hint="Name a JSON file."
            ) from None
    if isinstance(schema, str | bytes):
        schema = _parsed(schema, name)
    value = _unwrapped(schema)
    if not isinstance(value, dict | bool):
        raise fault("$", "a schema must be an object, true or false")
    _measure(value)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise fault(name, f"the schema is no JSON: {error}") from None
    if len(text) > MAX_TEXT:
        raise too_large("the schema", f"{MAX_TEXT} bytes")
    return text


def _parsed(text: str | bytes, name: str) -> Any:
    if len(text) > MAX_TEXT:
        raise too_large("the schema", f"{MAX_TEXT} bytes")
    try:
        if isinstance(text, bytes):
            text = text.decode()
        return json.loads(text, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise fault(name, f"the schema is not UTF-8: byte {error.start}") from None
    except ValueError as error:  # also a number of thousands of digits
        raise fault(name, f"the schema is no JSON: {error}") from None
    except RecursionError:
        raise too_large("the schema", f"{MAX_DEPTH} nested levels") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for index, key in enumerate(keys) if key in keys[:index])
        raise fault("$", f"the key {twice!r} comes twice in one object")
    return found


def _unwrapped(schema: Any) -> Any:
    if isinstance(schema, dict):
        inner = schema.get("json_schema")
        if schema.get("type") == "json_schema" and isinstance(inner, dict):
            return inner.get("schema", {})
        if schema.get("type") == "json_object" and len(schema) <= 2 and "properties" not in schema:
            return schema.get("schema", {"type": "object"})
    return schema


def _measure(value: Any) -> None:
    """Refuse what is nested too deeply for the recursion that is to come."""
    count, level = 0, [value]
    for _ in range(3 * MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
                count += 1
            elif isinstance(item, list):
                below += item
        if count > _MAX_SCHEMAS:
            raise too_large("the schema", f"{_MAX_SCHEMAS} objects")
        if not below:
            return
        level = below
    raise too_large("the schema", f"{3 * MAX_DEPTH} nested levels")


class Document:
    """A schema in JSON text, in the words of draft 2020-12: older spellings are rewritten."""

    def __init__(self, text: str) -> None:
        root = json.loads(text)
        older = isinstance(root, dict) and bool(
            re.search(r"draft-0[3-7]", str(root.get("$schema", "")))
        )
        self.root = Member(_rewritten(root, "$", older=older), "$")
        self._id = self._localise()

    def _localise(self) -> str:
        """Take the document's own address out of it and its references; returns the address."""
        base = ""
        for member in walk(self.root):
            schema = member.schema
            if not isinstance(schema, dict):
                continue
            for word in ("$id", "$anchor", "$schema"):
                if not isinstance(schema.get(word, ""), str):
                    raise fault(step(member.path, word), "its value must be a string")
            if "$id" in schema and member.path != "$":
                raise fault(
                    step(member.path, "$id"), "an address inside of a schema is not supported"
                )
            base = base or schema.pop("$id", "").partition("#")[0]
            reference = schema.get("$ref")
            if base and isinstance(reference, str) and reference.startswith(f"{base}#"):
                schema["$ref"] = reference[len(base) :]
        return base

    def resolve(self, reference: object, path: str) -> Member:
        """Return what ``$ref`` at ``path`` names; nothing outside of the document is looked at.

        Raises:
            GrammarError: it is elsewhere, or not there.
        """
        hint = "Put the schema under $defs and refer to it as #/$defs/NAME."
        if not isinstance(reference, str):
            raise fault(path, "a reference must be a string", hint)
        base, _, fragment = reference.partition("#")
        if base and base != self._id:
            raise fault(path, f"{reference!r} is outside of this document", hint)
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            return self._anchor(fragment, path)
        member = self.root
        for part in fragment.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            schema = member.schema
            if isinstance(schema, list) and key.isdecimal() and int(key) < len(schema):
                member = member.at(int(key))
            elif isinstance(schema, dict) and key in schema:
                member = member.at(key)
            else:
                raise fault(path, f"{reference!r} names nothing", hint)
        return member

    def _anchor(self, name: str, path: str) -> Member:
        for member in walk(self.root):
            if isinstance(member.schema, dict) and member.schema.get("$anchor") == name:
                return member
        raise fault(path, f"#{name} names no $anchor", "Define it, or use #/$defs/NAME.")


#: Keywords that hold a schema, a list of schemas, a schema per name.
ONE = frozenset(
    [
        "additionalProperties",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
        "contentSchema",
    ]
)
MANY = frozenset(["allOf", "anyOf", "oneOf", "prefixItems"])
NAMED = frozenset(["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"])


def walk(member: Member) -> Iterator[Member]:
    """Return a schema and all below it."""
    stack = [member]
    while stack:
        current = stack.pop()
        yield current
        if isinstance(current.schema, dict):
            for key, value in current.schema.items():
                if key in ONE:
                    stack.append(current.at(key))
                elif key in MANY and isinstance(value, list):
                    stack += [current.at(key, index) for index in range(len(value))]
                elif key in NAMED and isinstance(value, dict):
                    stack += [current.at(key, name) for name in value]


def _rewritten(  # noqa: C901, PLR0912 - one branch per keyword
    schema: Any, path: str, *, older: bool
) -> Any:
    """Return a schema with item lists and ``dependencies`` in today's words."""
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    constrained = schema.keys() - {"$ref", "definitions", "$defs", "title", "description"}
    if older and "$ref" in schema and path != "$" and constrained - {"$comment", "default"}:
        raise fault(path, "beside $ref, drafts before 2019-09 ignore other keywords")
    for key, value in schema.items():
        below = step(path, key)
        if key in ("items", "additionalItems") and isinstance(schema.get("items"), list):
            if "prefixItems" in schema:
                raise fault(below, "a list of items beside prefixItems says two things")
            if key == "items":
                found["prefixItems"] = _each(value, below, older=older)
            else:
                found["items"] = _rewritten(value, below, older=older)
        elif key == "additionalItems":
            continue  # without a list of items it says nothing
        elif key == "dependencies" and isinstance(value, dict):
            _split_dependencies(found, value, below, older=older)
        elif key in ONE:
            found[key] = _rewritten(value, below, older=older)
        elif key in MANY or key in NAMED:
            found[key] = _each(value, below, older=older)
        elif (key == "id" and older) or key.startswith("x-"):
            continue
        else:
            found[key] = value
    return found


def _each(value: Any, path: str, *, older: bool) -> Any:
    if isinstance(value, dict):
        return {k: _rewritten(v, step(path, k), older=older) for k, v in value.items()}
    if isinstance(value, list):
        return [_rewritten(v, step(path, i), older=older) for i, v in enumerate(value)]
    return value


def _split_dependencies(
    found: dict[str, Any], value: dict[str, Any], path: str, *, older: bool
) -> None:
    for name, needs in value.items():
        word = "dependentRequired" if isinstance(needs, list) else "dependentSchemas"
        found.setdefault(word, {})[name] = _rewritten(needs, step(path, name), older=older)
