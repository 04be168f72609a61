"""How an option is declared: a field with its help and the values it may take, checked here."""

from __future__ import annotations

import dataclasses
import math
import reprlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .errors import InvalidOptionError
from .units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance

    _Options = TypeVar("_Options", bound=DataclassInstance)

#: Numbers become 32-bit floats in llama.cpp; beyond these they, or a quotient, become 0 or inf.
SMALLEST, LARGEST = 1e-30, 1e30


class Rule(Protocol):
    """What a field may hold; ``str(rule)`` says it, to go on after "Use"."""

    def accepts(self, value: object) -> bool:
        """Tell whether ``value`` is possible."""
        ...


@dataclass(frozen=True)
class Number:
    """A finite number from ``low`` (or ``above`` it) to ``high`` that a 32-bit float can hold."""

    low: float = -LARGEST
    high: float = LARGEST
    above: bool = False

    def accepts(self, value: object) -> bool:
        """Tell whether ``value`` is such a number; bool is none."""
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
            and (value > self.low or not self.above)
            and (value == 0 or abs(value) >= SMALLEST)
        )

    def nearest(self, value: object) -> float | None:
        """Return the possible number closest to ``value``, if there is one."""
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            return None
        value = min(max(value, self.low), self.high)
        return value if self.accepts(value) else None

    def __str__(self) -> str:
        return f"a number {'above' if self.above else 'from'} {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Integer:
    """A whole number from ``low`` to ``high``."""

    low: int
    high: int = 2**31 - 1

    def accepts(self, value: object) -> bool:
        """Tell whether ``value`` is such a number; bool is none."""
        return (
            isinstance(value, int)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
        )

    def nearest(self, value: object) -> int | None:
        """Return the possible number closest to ``value``, if there is one."""
        number = Number(self.low, self.high).nearest(value)
        return None if number is None else int(number)

    def __str__(self) -> str:
        return f"{self.low} to {self.high}" if self.high < 2**31 - 1 else f"{self.low} or more"


@dataclass(frozen=True)
class OneOf:
    """One of a few values."""

    values: tuple[object, ...]

    def accepts(self, value: object) -> bool:
        """Tell whether ``value`` is one of them; True is not 1."""
        return any(type(value) is type(one) and value == one for one in self.values)

    def nearest(self, value: object) -> Any:
        """Return ``value`` if it is possible."""
        return value if self.accepts(value) else None

    def __str__(self) -> str:
        return " or ".join(str(one) for one in self.values)


@dataclass(frozen=True)
class Either:
    """What one of several rules accepts."""

    rules: tuple[Rule, ...]

    def accepts(self, value: object) -> bool:
        """Tell whether any of the rules accepts ``value``."""
        return any(rule.accepts(value) for rule in self.rules)

    def __str__(self) -> str:
        return ", or ".join(str(rule) for rule in self.rules)


@dataclass(frozen=True)
class Size:
    """A size from one byte: a number of them, or as people write it."""

    def accepts(self, value: object) -> bool:
        """Tell whether ``value`` is such a size."""
        try:
            return isinstance(value, str | int) and Integer(1, 2**63 - 1).accepts(
                parse_bytes(value)
            )
        except ValueError:
            return False

    def __str__(self) -> str:
        return "a size like 1.5GiB or 800MB"


@dataclass(frozen=True)
class Name:
    """A text that is not empty."""

    def accepts(self, value: object) -> bool:
        """Tell whether ``value`` is such a text."""
        return isinstance(value, str) and bool(value.strip())

    def __str__(self) -> str:
        return "a name"


@dataclass(frozen=True)
class Texts:
    """A tuple of at most ``count`` texts, each of 1 to ``nbytes`` bytes of UTF-8."""

    count: int = 256
    nbytes: int = 65536

    def accepts(self, value: object) -> bool:
        """Tell whether ``value`` is such a tuple; C strings hold no NUL."""
        return (
            isinstance(value, tuple)
            and len(value) <= self.count
            and all(
                isinstance(text, str)
                and "\0" not in text
                and 0 < len(text.encode(errors="replace")) <= self.nbytes
                for text in value
            )
        )

    def __str__(self) -> str:
        return f"at most {self.count} non-empty strings of up to {self.nbytes} bytes each"


@dataclass(frozen=True)
class Names:
    """A tuple of names out of ``values``."""

    values: tuple[str, ...]

    def accepts(self, value: object) -> bool:
        """Tell whether ``value`` is such a tuple."""
        return isinstance(value, tuple) and all(name in self.values for name in value)

    def __str__(self) -> str:
        return f"names out of {', '.join(self.values)}"


@dataclass(frozen=True)
class Biases:
    """A tuple of pairs of a token, as id or text, and a bias; minus infinity forbids the token."""

    def accepts(self, value: object) -> bool:
        """Tell whether ``value`` is such a tuple; the vocabulary is not known here."""
        return isinstance(value, tuple) and all(
            isinstance(pair, tuple) and len(pair) == 2 and self._is_bias(*pair) for pair in value
        )

    @staticmethod
    def _is_bias(token: object, bias: object) -> bool:
        known = bool(token) if isinstance(token, str) else Integer(0).accepts(token)
        return known and (bias == -math.inf or Number().accepts(bias))

    def __str__(self) -> str:
        return "pairs of a token (id or text) and a finite number or -inf"


def option(default: Any, rule: Rule, description: str, **more: Any) -> Any:
    """Declare a field: its default, the values it may take, its help, and what else is known."""
    metadata = {"help": description, "rule": rule, **more}
    return dataclasses.field(default=default, metadata=metadata)


def check(options: DataclassInstance) -> None:
    """Check every field against its rule; None passes where it is the default.

    Raises:
        InvalidOptionError: names the first field that is wrong and what it may be.
    """
    for field in dataclasses.fields(options):
        value, optional = getattr(options, field.name), field.default is None
        if not (value is None and optional) and not field.metadata["rule"].accepts(value):
            raise InvalidOptionError(
                f"{field.name} = {reprlib.repr(value)} is not possible",
                hint=f"Use {field.metadata['rule']}{', or None' if optional else ''}.",
            )


def with_options(options: _Options, changes: Mapping[str, Any]) -> _Options:
    """Return ``options`` with ``changes``; InvalidOptionError for a name that does not exist."""
    known = [field.name for field in dataclasses.fields(options)]
    for name in changes:
        if name not in known:
            raise InvalidOptionError(
                f"unknown option {name!r} of {type(options).__name__}",
                hint=f"Known options: {', '.join(known)}.",
            )
    return dataclasses.replace(options, **changes) if changes else options
