"""How JSON is written, and where what a schema leaves open comes to an end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ...rules import Integer, OneOf, check, option

Unsupported = Literal["error", "check"]


@dataclass(frozen=True, kw_only=True)
class JsonOptions:
    """Options of ``Grammar.json_schema`` and ``Grammar.json``; InvalidOptionError names a fault.

    What a schema says itself goes before the bounds here: they end what would go on for ever.
    """

    unsupported: Unsupported = option(
        "error",
        OneOf(get_args(Unsupported)),
        "A keyword that is not enforced is an error, or checked after generation, by parse().",
    )
    open: bool = option(
        False,  # noqa: FBT003 - the default of a field
        OneOf((True, False)),
        "Whether to take silence as the specification does: without a type any is allowed, and "
        "beside named keys or items any others are. People who name keys mean these.",
    )
    whitespace: int = option(
        0,
        Integer(0, 100),
        "Most spaces and line ends on either side of a separator; 0 is one space after commas and "
        "colons, as json.dumps writes and models have seen most.",
    )
    max_string_length: int = option(4000, Integer(0, 10**6), "Most characters of a string.")
    max_key_length: int = option(100, Integer(1, 10**6), "Most characters of a key not named.")
    max_items: int = option(1000, Integer(0, 10**6), "Most items of an array.")
    max_extra_keys: int = option(100, Integer(0, 10**6), "Most keys that a schema does not name.")
    max_integer_digits: int = option(15, Integer(1, 40), "Most digits before the point.")
    max_fraction_digits: int = option(15, Integer(0, 40), "Most digits after the point.")
    max_depth: int = option(8, Integer(0, 64), "Most levels of JSON that no schema describes.")

    def __post_init__(self) -> None:
        check(self)
