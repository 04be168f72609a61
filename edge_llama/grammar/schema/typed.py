"""Schemas that hold together, for one type: their keywords merged into a node."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ...errors import GrammarError
from .choices import is_plain_not
from .containers import arrays, objects
from .digits import can_step, multiples_exist, step_of
from .document import DERIVED, Member, fault, step
from .fits import NothingFitsError, bounds
from .formats import FORMATS
from .languages import pattern_language
from .model import Node, Numbers, Strings, Values

if TYPE_CHECKING:
    from ..regular import Regular
    from .reader import Reader

__all__ = ["NothingFitsError", "Typed"]


class Typed:
    """Makes nodes for one reader."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def node(self, kind: str, members: list[Member]) -> list[Node]:
        """Return the node for ``kind``; none if a plain ``not`` excludes all of it.

        Raises:
            NothingFitsError: the members contradict each other.
            GrammarError: one member contradicts itself, or is not enforced.
        """
        if kind in ("null", "boolean"):
            values = (None,) if kind == "null" else (True, False)
            out = _excluded(members)
            left = tuple(value for value in values if not any(value is one for one in out))
            return [Values(left)] if left else []
        try:
            if kind == "string":
                return [self.strings(members)]
            if kind in ("integer", "number"):
                return [self._numbers(members, integer=kind == "integer")]
            build = arrays if kind == "array" else objects
            return [build(self._reader, members)]
        except NothingFitsError as error:
            if len(members) == 1 and DERIVED not in members[0].path:
                raise fault(error.path, f"nothing fits: {error.reason}") from None
            raise

    def strings(self, members: list[Member]) -> Strings:
        """Return the strings that fit all members."""
        low, high = bounds(members, "minLength", "maxLength")
        within: list[Regular] = []
        for member in members:
            if "pattern" in member.schema:
                path = step(member.path, "pattern")
                within.append(pattern_language(member.schema["pattern"], path))
            if "format" in member.schema:
                name = member.schema["format"]
                if name in FORMATS:
                    within.append(FORMATS[name].language())
                else:
                    self._reader.not_enforced(
                        step(member.path, "format"), f"the format {name!r} is not known"
                    )
        without = []
        for member in members:
            if is_plain_not(member.schema.get("not")) and "pattern" in member.schema["not"]:
                path = step(member.path, "not.pattern")
                without.append(pattern_language(member.schema["not"]["pattern"], path))
        from ..regular import Text

        without += [Text(value) for value in _excluded(members) if isinstance(value, str)]
        found = Strings(
            members[0].path if members else "$", low, high, tuple(within), tuple(without)
        )
        if not self._exists(found, members):
            raise NothingFitsError(
                _where_pattern(members), "no string fits it and the keywords beside it"
            )
        return found

    @staticmethod
    def _exists(found: Strings, members: list[Member]) -> bool:
        if not found.within and not found.without:
            return True
        from .strings import exists

        try:
            return exists(found)
        except GrammarError:
            raise fault(
                _where_pattern(members),
                "it and the keywords beside it are too complex together",
                "Use one pattern that says it all.",
            ) from None

    def _numbers(self, members: list[Member], *, integer: bool) -> Node:
        low = high = None
        steps = []
        for member in members:
            for word, value in member.schema.items():
                if word in ("minimum", "exclusiveMinimum"):
                    one = (Decimal(str(value)), word == "exclusiveMinimum")
                    low = one if low is None else max(low, one)
                elif word in ("maximum", "exclusiveMaximum"):
                    one = (Decimal(str(value)), word == "exclusiveMaximum")
                    if high is None or (one[0], not one[1]) < (high[0], not high[1]):
                        high = one
                elif word == "multipleOf":
                    steps.append(Decimal(str(value)))
        out = tuple(
            Decimal(str(value))
            for value in _excluded(members)
            if isinstance(value, int | float) and not isinstance(value, bool)
        )
        path = members[0].path if members else "$"
        found = Numbers(path, integer, low, high, tuple(dict.fromkeys(steps)), out)
        fits = multiples_exist(found)
        if not fits:
            word = next((w for m in members for w in m.schema if w in _NUMERIC), "type")
            where = next((m.path for m in members if word in m.schema), path)
            raise NothingFitsError(step(where, word), "no number is within all the bounds")
        step_size = step_of(found)
        if step_size is not None and not can_step(found, step_size):
            where = next(m.path for m in members if "multipleOf" in m.schema)
            self._reader.not_enforced(
                step(where, "multipleOf"), "steps like this one need a minimum and a maximum nearby"
            )
            return replace(found, steps=())
        return found


def _where_pattern(members: list[Member]) -> str:
    for member in members:
        for word in ("pattern", "format", "not"):
            if word in member.schema:
                return step(member.path, word)
    return members[0].path


_NUMERIC = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf")


def _excluded(members: list[Member]) -> list[Any]:
    found: list[Any] = []
    for member in members:
        denied = member.schema.get("not")
        if is_plain_not(denied):
            found += [denied["const"]] if "const" in denied else denied.get("enum", [])
    return found
