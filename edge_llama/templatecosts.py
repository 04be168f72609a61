"""What a step of a chat template may cost, and what is refused before it is done."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import SecurityError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The largest value: characters, and items, which count for more as they take more time.
MAX_SIZE = 16_000_000
ITEM = 512
_MAX_RANGE = MAX_SIZE // ITEM
#: Of this thread's processor time, so that a busy machine refuses no honest template.
_MAX_SECONDS = 1.2
_MAX_WORK = 8 * MAX_SIZE
#: A width, a count or a position that a filter or method is given.
_MAX_NUMBER = 100_000
_MAX_BITS = 4096

_SPLITS = {"split", "rsplit", "splitlines"}
_UNBOUNDED_METHODS = {"expandtabs", "translate", "format_map"}
#: A width or precision of more than three digits, or one that is itself an argument.
_WIDE_PERCENT = re.compile(r"%[^%a-zA-Z]*(\d{4}|\*)")
WIDE_FORMAT = re.compile(r":[^{}]*(\d{4}|\{)")


class Budget:
    """What one rendering may cost."""

    def __init__(self) -> None:
        self._left = _MAX_WORK
        self._end = time.thread_time() + _MAX_SECONDS

    def spend(self, cost: int) -> None:
        """Pay for a step; SecurityError when there is no work or time left."""
        self._left -= cost
        if self._left < 0 or time.thread_time() > self._end:
            raise SecurityError("it takes too long")


def size_of(value: Any) -> int:
    """Return how large a value is with all it contains; SecurityError beyond MAX_SIZE."""
    total, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str | bytes):
            total += len(one)
        elif isinstance(one, list | tuple | set | frozenset | dict):
            total += ITEM * len(one)
            if total <= MAX_SIZE:
                waiting += one
                waiting += one.values() if isinstance(one, dict) else ()
        elif isinstance(one, int) and one.bit_length() > _MAX_BITS:
            raise SecurityError("a number is too large")
        if total > MAX_SIZE:
            raise SecurityError("a value is too large")
    return total


def bounded_range(*limits: int) -> range:
    """Return Python's range, if it is not too long."""
    numbers = range(*limits)
    if len(numbers) > _MAX_RANGE:
        raise SecurityError(f"a range of {len(numbers):,} is too large")
    return numbers


def check_size(size: int) -> None:
    """Raise SecurityError if a value of this size would be too large."""
    if size > MAX_SIZE:
        raise SecurityError("a value is too large")


def _check_numbers(arguments: Iterable[Any]) -> None:
    for one in arguments:
        if isinstance(one, int | float) and not abs(one) <= _MAX_NUMBER:
            raise SecurityError(f"{one} is too large")


def check_percent(text: str, arguments: Any) -> None:
    """Check a text that is to be formatted with ``%``."""
    if _WIDE_PERCENT.search(text):
        raise SecurityError("such a format is not possible")
    check_size(text.count("%") * size_of(arguments))


def _check_replace(text: str, arguments: Iterable[Any]) -> None:
    old, new, *_ = [*(str(one) for one in arguments), "", ""]
    check_size(text.count(old) * len(new))


def check_method(text: str, name: str, arguments: tuple[Any, ...]) -> None:
    """Check a method of a text before it is called."""
    _check_numbers(arguments)
    if name in _UNBOUNDED_METHODS:
        raise SecurityError(f"{name} is not possible here")
    if name in _SPLITS:
        separator = arguments[0] if arguments else None
        check_size(ITEM * text.count(separator) if separator else 16 * len(text))
    if name == "replace":
        _check_replace(text, arguments)
    if name == "join":
        check_size(len(text) * max(map(size_of, arguments), default=0))


def check_filter(name: str, value: Any, arguments: list[Any]) -> None:
    """Check a filter whose cost is not that of its value before it is called."""
    _check_numbers(arguments if name not in {"d", "default"} else ())
    if name == "replace":
        _check_replace(str(value), arguments)
    elif name == "indent":
        width = max(
            (len(one) if isinstance(one, str) else int(one) for one in arguments), default=4
        )
        check_size(str(value).count("\n") * width)
    elif name == "format":
        check_percent(str(value), tuple(arguments))
    elif name == "join":
        longest = max((len(one) for one in arguments if isinstance(one, str)), default=0)
        check_size(longest * (len(value) if hasattr(value, "__len__") else _MAX_NUMBER))
    elif name == "title":
        check_size(ITEM * len(str(value)))
    elif name == "sum" and not all(isinstance(one, str | int | float) for one in arguments):
        raise SecurityError("only numbers can be added up")
