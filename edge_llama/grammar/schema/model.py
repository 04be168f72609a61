"""What a schema comes down to: nodes that can be written as rules, linked by keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from decimal import Decimal

    from ..regular import Regular

#: Members' paths: equal keys are equal schemas, so references back come to an end.
Key: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class AnyJson:
    """Any JSON, as deep as the options allow."""


@dataclass(frozen=True)
class Values:
    """One of a few values."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Numbers:
    """Numbers within bounds; ``low`` and ``high`` with whether the bound itself is excluded."""

    path: str
    integer: bool
    low: tuple[Decimal, bool] | None = None
    high: tuple[Decimal, bool] | None = None
    steps: tuple[Decimal, ...] = ()
    excluded: tuple[Decimal, ...] = ()


@dataclass(frozen=True)
class Strings:
    """Strings by length and by languages of their characters, all of which hold."""

    path: str
    low: int = 0
    high: int | None = None
    within: tuple[Regular, ...] = ()
    without: tuple[Regular, ...] = ()


@dataclass(frozen=True)
class Property:
    """A key that the schema names."""

    name: str
    value: Key
    required: bool


@dataclass(frozen=True)
class FreeKeys:
    """Keys that it does not name: their language and what they hold."""

    keys: Strings
    value: Key


@dataclass(frozen=True)
class Objects:
    """Named keys in order, then free ones; bounds on how many in all."""

    path: str
    named: tuple[Property, ...]
    free: tuple[FreeKeys, ...]
    low: int = 0
    high: int | None = None


@dataclass(frozen=True)
class Arrays:
    """Items by place, then the others; ``low`` to ``high`` in all."""

    path: str
    first: tuple[Key, ...]
    rest: Key | None
    low: int = 0
    high: int | None = None
    #: Where uniqueItems stands, if it is enforced.
    unique: str | None = None
    #: Items of one kind among the others: what they are, how often, and what the others are.
    contains: tuple[Key, int, int | None, Key] | None = None


@dataclass(frozen=True)
class Union:
    """Any of several."""

    options: tuple[Node | Key, ...]


Node: TypeAlias = "AnyJson | Values | Numbers | Strings | Objects | Arrays | Union"
