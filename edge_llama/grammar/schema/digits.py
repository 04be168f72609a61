"""Numbers within bounds as languages of digits; exact, in decimal arithmetic."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

from ..bounds import too_large
from ..charset import DIGITS, CharSet
from ..regular import EMPTY, Alt, Chars, Regular, Repeat, Seq, Text

if TYPE_CHECKING:
    from .model import Numbers
    from .options import JsonOptions

_DIGIT = Chars(DIGITS)
_NONZERO = Chars(CharSet.of((0x31, 0x39)))
_DIGITS = Repeat(_DIGIT, 0, None)
_SOME = Seq((_DIGITS, _NONZERO, _DIGITS))  # digits that are not all 0
_MINUS, _POINT = Text("-"), Text(".")
_FRACTION = Repeat(Seq((_POINT, Repeat(_DIGIT, 1, None))), 0, 1)
_MAGNITUDE = Seq((Repeat(_DIGIT, 1, None), _FRACTION))
_ZERO = Seq(
    (Repeat(_MINUS, 0, 1), Text("0"), Repeat(Seq((_POINT, Repeat(Text("0"), 1, None))), 0, 1))
)
_PRECISION = 400  # decimal digits: floats have up to 309 before the point
#: Digits before or after the point of a bound that is written out.
_MOST_DIGITS = 40
#: multipleOf is an automaton of that many states at most.
MAX_STEP = 10_000
#: Values that are listed rather than described.
LISTED = 1000


def terminal(numbers: Numbers, options: JsonOptions) -> str:
    """Return the body of a Lark terminal; bounds and excluded values are intersected."""
    numbers = _tamed(numbers)
    ends = [numbers.low, numbers.high]
    whole = max([options.max_integer_digits, *(_whole_digits(end[0]) for end in ends if end)])
    parts = [_shape(numbers, options, whole)]
    if numbers.low is not None:
        parts.append(_at_least(*numbers.low))
    if numbers.high is not None:
        parts.append(_at_most(*numbers.high))
    body = " & ".join(f"/{part.pattern()}/" for part in parts)
    if numbers.excluded:
        denied = " | ".join(f"/{_equal(value).pattern()}/" for value in numbers.excluded)
        body += f" & ~({denied})"
    return body


def _tamed(numbers: Numbers) -> Numbers:
    """Leave out bounds that are further away than numbers are long; refuse needing such numbers."""
    most = Decimal(10) ** _MOST_DIGITS
    low, high = numbers.low, numbers.high
    values = [end[0] for end in (low, high) if end] + list(numbers.steps)
    if (
        (low and low[0] > most)
        or (high and high[0] < -most)
        or any(_places(value) > _MOST_DIGITS for value in values)
    ):
        raise too_large(f"{numbers.path}: a number", f"{_MOST_DIGITS} digits", numbers.path)
    return replace(
        numbers,
        low=None if low and low[0] < -most else low,
        high=None if high and high[0] > most else high,
    )


def _shape(numbers: Numbers, options: JsonOptions, whole: int) -> Regular:
    sign = Repeat(_MINUS, 0, 1)
    body: Regular
    if numbers.integer:
        body = Seq((sign, _NONZERO, Repeat(_DIGIT, 0, whole - 1)))
        return Alt((Text("0"), body))
    body = Alt((Text("0"), Seq((_NONZERO, Repeat(_DIGIT, 0, whole - 1)))))
    places = options.max_fraction_digits
    if numbers.steps:
        places = max(0, *(_places(one) for one in numbers.steps))
    else:
        fractions = [_places(end[0]) + 2 for end in (numbers.low, numbers.high) if end]
        places = max([places, *fractions])
    fraction = Repeat(Seq((_POINT, Repeat(_DIGIT, 1, places))), 0, 1) if places else EMPTY
    power: Regular = EMPTY
    if not (numbers.low or numbers.high or numbers.steps or numbers.excluded):
        sign_of_power = Repeat(Chars(CharSet.chars("+-")), 0, 1)
        power = Repeat(Seq((Chars(CharSet.chars("eE")), sign_of_power, Repeat(_DIGIT, 1, 2))), 0, 1)
    return Seq((sign, body, fraction, power))


def _at_least(bound: Decimal, excluded: bool) -> Regular:  # noqa: FBT001 - a pair, unpacked
    if bound > 0:
        return _more(bound, strict=excluded)
    if bound == 0:
        return _more(bound, strict=True) if excluded else Alt((_MAGNITUDE, _ZERO))
    return Alt((_MAGNITUDE, Seq((_MINUS, _less(-bound, strict=excluded)))))


def _at_most(bound: Decimal, excluded: bool) -> Regular:  # noqa: FBT001 - a pair, unpacked
    if bound < 0:
        return Seq((_MINUS, _more(-bound, strict=excluded)))
    if bound == 0:
        negative = Seq((_MINUS, _more(bound, strict=True) if excluded else _MAGNITUDE))
        return negative if excluded else Alt((negative, _ZERO))
    return Alt((Seq((_MINUS, _MAGNITUDE)), _less(bound, strict=excluded)))


def _split(value: Decimal) -> tuple[int, str]:
    whole, _, fraction = f"{value:f}".partition(".")
    return int(whole), fraction.rstrip("0")


def _whole_digits(value: Decimal) -> int:
    return len(str(abs(_split(value)[0])))


def _places(value: Decimal) -> int:
    return len(_split(abs(value))[1])


def _more(value: Decimal, *, strict: bool) -> Regular:
    """Return magnitudes from ``value`` on."""
    whole, fraction = _split(value)
    same: list[Regular] = []
    if not fraction:
        same.append(Seq((_POINT, _SOME)) if strict else _FRACTION)
    else:
        for place, digit in enumerate(fraction):
            if digit != "9":
                same.append(_after(fraction[:place], int(digit) + 1, 9))
        same.append(Seq((_POINT, Text(fraction), _SOME if strict else _DIGITS)))
    return Alt((Seq((_ints_from(whole + 1), _FRACTION)), Seq((Text(str(whole)), Alt(tuple(same))))))


def _less(value: Decimal, *, strict: bool) -> Regular:
    """Return magnitudes up to ``value``, which is above 0."""
    whole, fraction = _split(value)
    same: list[Regular] = []
    if fraction or not strict:
        same.append(EMPTY)
    for place, digit in enumerate(fraction):
        if place:
            same.append(Seq((_POINT, Text(fraction[:place]))))
        if digit != "0":
            same.append(_after(fraction[:place], 0, int(digit) - 1))
    if not strict:
        zeros = Repeat(Text("0"), 0 if fraction else 1, None)
        same.append(Seq((_POINT, Text(fraction), zeros)))
    options: list[Regular] = [Seq((Text(str(whole)), Alt(tuple(same))))] if same else []
    if whole > 0:
        options.append(Seq((_ints_to(whole - 1), _FRACTION)))
    return Alt(tuple(options))


def _after(before: str, low: int, high: int) -> Regular:
    return Seq((_POINT, Text(before), _between(low, high), _DIGITS))


def _between(low: int, high: int) -> Regular:
    return Chars(CharSet.of((0x30 + low, 0x30 + high)))


def _ints_from(low: int) -> Regular:
    digits = str(low)
    options: list[Regular] = [Text(digits)]
    for place, digit in enumerate(digits):
        if digit != "9":
            rest = len(digits) - place - 1
            options.append(
                Seq((Text(digits[:place]), _between(int(digit) + 1, 9), Repeat(_DIGIT, rest, rest)))
            )
    options.append(Seq((_NONZERO, Repeat(_DIGIT, len(digits), None))))
    return Alt(tuple(options))


def _ints_to(high: int) -> Regular:
    digits = str(high)
    options: list[Regular] = [Text(digits), Text("0")]
    for place, digit in enumerate(digits):
        least = 0 if place else 1
        if int(digit) > least:
            rest = len(digits) - place - 1
            options.append(
                Seq(
                    (
                        Text(digits[:place]),
                        _between(least, int(digit) - 1),
                        Repeat(_DIGIT, rest, rest),
                    )
                )
            )
    if len(digits) > 1:
        options.append(Seq((_NONZERO, Repeat(_DIGIT, 0, len(digits) - 2))))
    return Alt(tuple(options))


def _equal(value: Decimal) -> Regular:
    if value == 0:
        return _ZERO
    whole, fraction = _split(abs(value))
    zeros = Repeat(Text("0"), 0 if fraction else 1, None)
    tail: Regular = Seq((_POINT, Text(fraction), zeros))
    sign = _MINUS if value < 0 else EMPTY
    return Seq((sign, Text(str(whole)), tail if fraction else Repeat(tail, 0, 1)))


def step_of(numbers: Numbers) -> Decimal | None:
    """Return the least number of which all values are multiples: that of all steps together."""
    steps = [*numbers.steps, *([Decimal(1)] if numbers.integer and numbers.steps else [])]
    if not steps:
        return None
    scale = max(map(_places, steps))
    with localcontext() as context:
        context.prec = _PRECISION
        joined = math.lcm(*(int(one.scaleb(scale)) for one in steps))
        return Decimal(joined).scaleb(-scale)


def can_step(numbers: Numbers, step: Decimal) -> bool:
    """Tell whether multiples of ``step`` can be written: listed, by digits, or by an automaton."""
    if listed(numbers) is not None or is_digits(step):
        return True
    return step == step.to_integral_value() and step <= MAX_STEP and not numbers.excluded


def is_digits(step: Decimal) -> bool:
    """Tell whether multiples of ``step`` are the numbers with so many digits after the point."""
    return step <= 1 and step.normalize().as_tuple().digits == (1,)


def whole_bounds(numbers: Numbers, options: JsonOptions) -> tuple[int, int]:
    """Return the least and the largest integer within the bounds and the number of digits."""
    numbers = _tamed(numbers)
    most = 10**options.max_integer_digits - 1
    low, high = -most, most
    if numbers.low is not None:
        low = math.ceil(numbers.low[0])
        low += low == numbers.low[0] and numbers.low[1]
    if numbers.high is not None:
        high = math.floor(numbers.high[0])
        high -= high == numbers.high[0] and numbers.high[1]
    return low, high


def listed(numbers: Numbers) -> list[Decimal] | None:
    """Return the values in order, if there are at most LISTED; None if more or no end."""
    step = step_of(numbers) or (Decimal(1) if numbers.integer else None)
    if numbers.low is None or numbers.high is None or step is None:
        return None
    with localcontext() as context:
        context.prec = _PRECISION
        low, high = (numbers.low[0] / step), (numbers.high[0] / step)
        first, last = math.ceil(low), math.floor(high)
        first += first == low and numbers.low[1]
        last -= last == high and numbers.high[1]
        if last - first >= LISTED + len(numbers.excluded):
            return None
        values = [(n * step).normalize() for n in range(first, last + 1)]
        return [value for value in values if value not in numbers.excluded]


def multiples_exist(numbers: Numbers) -> bool:
    """Tell whether any number is within the bounds."""
    if numbers.low is not None and numbers.high is not None:
        (low, no_low), (high, no_high) = numbers.low, numbers.high
        if low > high or (low == high and (no_low or no_high or low in numbers.excluded)):
            return False
        values = listed(numbers)
        return values is None or bool(values)
    return True
