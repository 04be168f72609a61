"""Patterns of a schema as languages of characters, and as JSON strings."""

from __future__ import annotations

import functools

from ...errors import GrammarError
from ..anchors import StrayAnchorError, within
from ..bounds import MAX_SIZE, too_large
from ..charset import NONE, CharSet
from ..recognise import fits
from ..regexp import RegexParser
from ..regular import Alt, Chars, Regular, Repeat, Seq, Text

_SHORT = {'"': '"', "\\": "\\", "\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}
_CONTROLS = CharSet.of((0, 0x1F), (0x7F, 0x7F))
_ESCAPED = CharSet.chars("".join(_SHORT)) | _CONTROLS
_RAW = ~_ESCAPED


@functools.lru_cache(maxsize=256)
def _language(pattern: str) -> Regular:
    parser = RegexParser(pattern, "javascript")
    try:
        tree = within(parser.parse())
    except StrayAnchorError:
        raise parser.fault("an anchor inside the text", supported=False) from None
    if tree.size > MAX_SIZE:
        raise too_large("the pattern", f"{MAX_SIZE} characters unrolled")
    return tree


def pattern_language(pattern: str, path: str) -> Regular:
    """Return the texts in which ``pattern`` is found.

    Raises:
        GrammarError: it is malformed or not regular; names ``path``.
    """
    try:
        return _language(pattern)
    except GrammarError as error:
        raise GrammarError(f"{path}: {error}", hint=error.hint, path=path) from None


@functools.lru_cache(maxsize=4096)
def matches(language: Regular, value: str) -> bool:
    """Tell whether a text belongs to a language; linear in time, whatever the pattern."""
    return fits(language, value)


def finite(tree: Regular) -> bool:
    """Tell whether the texts of ``tree`` have a largest length."""
    if isinstance(tree, Seq | Alt):
        return all(map(finite, tree.items))
    return not isinstance(tree, Repeat) or (tree.high is not None and finite(tree.item))


@functools.lru_cache(maxsize=512)
def quoted(tree: Regular) -> Regular:
    """Return the JSON strings of a language; each character has one way to be written."""
    return Seq((Text('"'), _inside(tree), Text('"')))


def _inside(tree: Regular) -> Regular:
    if isinstance(tree, Seq):
        return Seq(tuple(map(_inside, tree.items)))
    if isinstance(tree, Alt):
        return Alt(tuple(map(_inside, tree.items)))
    if isinstance(tree, Repeat):
        return Repeat(_inside(tree.item), tree.low, tree.high)
    if isinstance(tree, Text):
        return Text("".join(map(_written, tree.value)))
    assert isinstance(tree, Chars)  # noqa: S101 - its kind says so
    return character(tree.chars)


def _written(char: str) -> str:
    if char in _SHORT:
        return "\\" + _SHORT[char]
    return f"\\u{ord(char):04x}" if ord(char) in _CONTROLS else char


@functools.lru_cache(maxsize=1024)
def character(chars: CharSet) -> Regular:
    """Return how a character of a set is written in JSON.

    Control characters without a short escape are left out unless the set has nothing else.
    """
    raw = ~(~chars | ~_RAW)
    options: list[Regular] = [Chars(raw)] if raw else []
    short = "".join(code for char, code in _SHORT.items() if ord(char) in chars)
    if short:
        options.append(Seq((Chars(CharSet.chars("\\")), Chars(CharSet.chars(short)))))
    if not options:
        codes = [code for low, high in chars.ranges for code in range(low, high + 1)]
        options = [Text(f"\\u{code:04x}") for code in codes]
    return options[0] if len(options) == 1 else Alt(tuple(options))


ANY_CHARACTER = character(~NONE)
