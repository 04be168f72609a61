r"""Characters of regular expressions: escapes and classes in brackets.

JSON Schema's patterns are JavaScript's, but validators match with their own language's. So that
all agree, ``\d``, ``\w`` and ``\s`` of such a pattern mean ASCII, and what excludes them excludes
also what Python counts among them: a class is read twice, as few and as many characters.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from ..errors import one_line
from .charset import DIGITS, NONE, SPACE, WORD, CharSet, python_class

if TYPE_CHECKING:
    from collections.abc import Callable

_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_ASCII = {"d": DIGITS, "w": WORD, "s": SPACE}
_HEX = {
    "python": re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})"),
    "javascript": re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}"),
}


class ClassReader:
    """Reads from ``at``; ``fault`` is what is wrong and whether it is a mistake or unsupported."""

    def __init__(self, text: str, at: int, flavour: str, *, ascii_only: bool) -> None:
        self._text = text
        self.at = at
        self._flavour = flavour
        self._ascii = ascii_only
        self.fault: tuple[str, bool] | None = None

    def read_escape(self) -> CharSet:
        """Read an escape outside of brackets."""
        return self._escape(in_class=False)[0]

    def read_class(self, fold: Callable[[CharSet], CharSet] | None) -> CharSet:
        """Read ``[...]``; ``fold`` adds other cases."""
        self.at += 1
        negated = self._take("^")
        few, many = NONE, NONE
        begun = self._flavour == "javascript"  # where [] is empty; for Python ] comes first
        while not self.fault:
            if self.at >= len(self._text):
                self.fault = ("a [ that is not closed", True)
                break
            if self._text[self.at] == "]" and begun:
                self.at += 1
                break
            begun = True
            low = self._member()
            if (
                self._text[self.at : self.at + 1] == "-"
                and self._text[self.at + 1 : self.at + 2] not in ("]", "")
                and not self.fault
            ):
                self.at += 1
                low = self._range(low[0].single(), self._member()[0].single())
            few, many = few | low[0], many | low[1]
        if fold is not None:
            few, many = fold(few), fold(many)
        return ~many if negated else few

    def _range(self, first: str | None, last: str | None) -> tuple[CharSet, CharSet]:
        if first is None or last is None:
            self.fault = self.fault or ("a range whose end is a class", True)
        elif last < first:
            self.fault = ("a range in the wrong order", True)
        else:
            found = CharSet.of((ord(first), ord(last)))
            return found, found
        return NONE, NONE

    def _member(self) -> tuple[CharSet, CharSet]:
        char = self._text[self.at : self.at + 1]
        if char == "\\":
            return self._escape(in_class=True)
        self.at += 1
        found = CharSet.chars(char)
        return found, found

    def _escape(self, *, in_class: bool) -> tuple[CharSet, CharSet]:
        char = self._text[self.at + 1 : self.at + 2]
        if char in _ASCII or char.lower() in _ASCII:
            self.at += 2
            return self._named(char)
        single = self._single(char, in_class=in_class)
        found = CharSet.chars(single) if single else NONE
        if single and not found:
            self.fault = ("half of a surrogate pair", False)
        return found, found

    def _named(self, char: str) -> tuple[CharSet, CharSet]:
        name = char.lower()
        if self._flavour == "python":
            few = many = _ASCII[name] if self._ascii else python_class(name)
        else:
            few, many = _ASCII[name], python_class(name)
        return (few, many) if char == name else (~many, ~few)

    def _single(self, char: str, *, in_class: bool) -> str:  # noqa: PLR0911 - one line per kind
        start = self.at + 1
        found = _HEX[self._flavour].match(self._text, start)
        if found:
            code = int(next(filter(None, found.groups())), 16)
            if code <= 0x10FFFF:
                self.at = found.end()
                return chr(code)
        elif char in _CONTROLS or (in_class and char == "b"):
            self.at += 2
            return _CONTROLS.get(char, "\b")
        elif char == "0" and not self._text[start + 1 : start + 2].isdigit():
            self.at += 2
            return "\0"
        elif self._flavour == "python":
            return self._python_single(char)
        elif char == "c" and self._text[start + 1 : start + 2].isalpha():
            self.at += 3
            return chr(ord(self._text[self.at - 1]) % 32)
        elif char and not char.isalnum() and char != "_":
            self.at += 2
            return char
        self.fault = self._strange(char)
        return ""

    def _python_single(self, char: str) -> str:
        start = self.at + 1
        octal = re.compile(r"[0-3][0-7]{2}|0[0-7]?").match(self._text, start)
        if octal:
            self.at = octal.end()
            return chr(int(octal[0], 8))
        name = re.compile(r"N\{([^}]+)\}").match(self._text, start)
        if name:
            self.at = name.end()
            try:
                return unicodedata.lookup(name[1])
            except KeyError:
                self.fault = (f"the unknown character name {one_line(name[1])}", True)
                return ""
        if char == "a" or (char and not (char.isascii() and char.isalnum())):
            self.at += 2
            return "\a" if char == "a" else char
        self.fault = self._strange(char)
        return ""

    @staticmethod
    def _strange(char: str) -> tuple[str, bool]:
        if not char:
            return "a backslash before nothing", True
        if char.isdigit() or char == "k":
            return f"the back-reference \\{char}", False
        if char in "bB":
            return f"the word boundary \\{char}", False
        if char in "pP":
            return f"the property \\{char}", False
        return f"the escape \\{one_line(char)}", False

    def _take(self, char: str) -> bool:
        found = self._text[self.at : self.at + 1] == char
        self.at += found
        return found
