"""Reads a regular expression, Python's or JavaScript's, into a tree; what is not regular is named.

References: Python's ``re`` documentation; ECMA-262 section 22.2.1 and annex B for the patterns of
JSON Schema, which are neither anchored nor in Unicode mode.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from ..errors import GrammarError, one_line
from .anchors import Edge
from .bounds import MAX_DEPTH, MAX_REPEAT, MAX_SIZE, MAX_TEXT, too_large
from .charset import ANY, CharSet, any_case
from .regexclass import ClassReader
from .regular import Alt, Chars, Regular, Repeat, Seq, Text

if TYPE_CHECKING:
    from collections.abc import Iterator

Flavour = Literal["python", "javascript"]

_COUNT = re.compile(r"\{([0-9]*)(,?)([0-9]*)\}")
_GROUP = re.compile(r"\?(?:P?<[^\W\d]\w*>|(?P<flags>[a-zA-Z]*)(?P<off>-[a-zA-Z]+)?(?P<end>[:)]))")
_REFUSED = {
    "?=": "look-ahead",
    "?!": "look-ahead",
    "?<=": "look-behind",
    "?<!": "look-behind",
    "?P=": "a back-reference",
    "?(": "a condition",
    "?>": "an atomic group",
}


class RegexParser:
    """One pattern; :meth:`parse` returns its tree, in which anchors are :class:`Edge`."""

    def __init__(self, pattern: str, flavour: Flavour) -> None:
        if len(pattern) > MAX_TEXT:
            raise too_large("the regular expression", f"{MAX_TEXT} characters")
        self._text = pattern
        self._at = 0
        self._depth = 0
        self._flavour = flavour
        self._count = 0
        self._ignore_case = self._dot_all = self._ascii = False
        self._verbose_name = one_line(pattern, 60)

    def parse(self) -> Regular:
        """Return the tree.

        Raises:
            GrammarError: a mistake, something that is not regular, or too large.
        """
        tree = self._alternatives()
        if self._at < len(self._text):
            raise self.fault("a ) that closes nothing")
        if tree.size > MAX_SIZE:
            raise too_large(
                f"the regular expression {self._verbose_name}", f"{MAX_SIZE} characters unrolled"
            )
        return tree

    def fault(self, what: str, *, supported: bool = True) -> GrammarError:
        """Return the error for ``what`` at the current place."""
        kind = "is malformed" if supported else "is not supported"
        return GrammarError(
            f"regular expression {self._verbose_name} {kind}: {what} at character {self._at + 1}",
            hint="Correct it; docs/grammars.md lists what patterns may contain.",
        )

    def _alternatives(self) -> Regular:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise too_large(
                f"the regular expression {self._verbose_name}", f"{MAX_DEPTH} nested groups"
            )
        items = [self._sequence()]
        while self._take("|"):
            items.append(self._sequence())
        self._depth -= 1
        return items[0] if len(items) == 1 else Alt(tuple(items))

    def _sequence(self) -> Regular:
        items: list[Regular] = []
        run = ""
        for piece in self._pieces():
            single = piece.chars.single() if isinstance(piece, Chars) else None
            if single is not None:
                run += single
                continue
            items += [Text(run)] * bool(run) + [piece]
            run = ""
        items += [Text(run)] * bool(run)
        return items[0] if len(items) == 1 else Seq(tuple(items))

    def _pieces(self) -> Iterator[Regular]:
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            atom = self._atom()
            if atom is not None:
                self._count += 1
                if self._count > MAX_SIZE:
                    raise too_large(
                        f"the regular expression {self._verbose_name}", f"{MAX_SIZE} parts"
                    )
                yield self._counted(atom)

    def _counted(self, atom: Regular) -> Regular:
        low, high = 1, None
        if self._take("*"):
            low = 0
        elif self._take("+"):
            pass
        elif self._take("?"):
            low, high = 0, 1
        else:
            count = self._read_count()
            if count is None:
                return atom
            low, high = count
        if isinstance(atom, Edge):
            raise self.fault("a repeated anchor")
        if not self._take("?") and self._flavour == "python" and self._take("+"):
            raise self.fault("a possessive repeat", supported=False)
        if self._peek() in ("*", "+", "?") or self._read_count() is not None:
            raise self.fault("a repeat of a repeat")
        return Repeat(atom, low, high)

    def _read_count(self) -> tuple[int, int | None] | None:
        found = _COUNT.match(self._text, self._at)
        if found is None or found[0] in ("{}", "{,}"):
            return None
        if not found[1] and (self._flavour == "javascript" or not found[3]):
            return None  # a literal brace, in both languages
        if len(found[1]) > 9 or len(found[3]) > 9 or int(found[1] or 0) > MAX_REPEAT:
            raise too_large(f"the repeat {found[0]}", f"{MAX_REPEAT} times")
        low = int(found[1] or 0)
        high = int(found[3]) if found[3] else None if found[2] else low
        if high is not None and high < low:
            raise self.fault(f"{found[0]}, whose numbers are in the wrong order")
        self._at = found.end()
        return low, high

    def _atom(self) -> Regular | None:
        char = self._text[self._at]
        if char in "*+?":
            raise self.fault("a repeat of nothing")
        if char == "(":
            return self._group()
        if char in "^$":
            self._at += 1
            return Edge(start=char == "^")
        if char == ".":
            self._at += 1
            return Chars(self._dot())
        reader = ClassReader(self._text, self._at, self._flavour, ascii_only=self._ascii)
        if char == "[":
            chars = reader.read_class(fold=any_case if self._ignore_case else None)
        elif char == "\\":
            if self._text[self._at + 1 : self._at + 2] in ("A", "Z") and self._flavour == "python":
                self._at += 2
                return Edge(start=self._text[self._at - 1] == "A")
            chars = reader.read_escape()
        else:
            reader.at += 1
            chars = CharSet.chars(char)
        if reader.fault:
            raise self.fault(*reader.fault[:1], supported=reader.fault[1])
        if not chars:
            raise self.fault("a class that no character is in")
        self._at = reader.at
        return Chars(any_case(chars) if self._ignore_case and char != "[" else chars)

    def _dot(self) -> CharSet:
        if self._dot_all:
            return ANY
        ends = "\n" if self._flavour == "python" else "\n\r\u2028\u2029"
        return ~CharSet.chars(ends)

    def _group(self) -> Regular | None:
        self._at += 1
        before = (self._ignore_case, self._dot_all, self._ascii)
        if self._peek() == "?":
            if self._text.startswith("?#", self._at) and self._flavour == "python":
                self._comment()
                return None
            found = _GROUP.match(self._text, self._at)
            if found is None or (found["flags"] is None) != (found[0][-1] == ">"):
                raise self._unsupported_group()
            if found["end"]:
                whole = self._flags(found)
                if whole:
                    return None
            self._at = found.end()
        tree = self._alternatives()
        if not self._take(")"):
            raise self.fault("a ( that is not closed")
        self._ignore_case, self._dot_all, self._ascii = before
        return tree if isinstance(tree, Alt) else Seq((tree,))  # a run of text ends here

    def _flags(self, found: re.Match[str]) -> bool:
        """Set flags; returns whether they are for the whole pattern."""
        flags, off = found["flags"], (found["off"] or "-")[1:]
        if self._flavour == "javascript" and (flags or off):
            raise self.fault("flags in a group", supported=False)
        unknown = set(flags + off) - set("isau")
        if unknown or (found["end"] == ")" and (self._at != 1 or self._depth != 1 or off)):
            raise self.fault(f"flags {found[0]}", supported=False)
        for flag, name in (("i", "_ignore_case"), ("s", "_dot_all"), ("a", "_ascii")):
            if flag in flags or flag in off:
                setattr(self, name, flag in flags)
        if found["end"] == ")":
            self._at = found.end()
            return True
        return False

    def _unsupported_group(self) -> GrammarError:
        rest = self._text[self._at : self._at + 3]
        for opening, name in _REFUSED.items():
            if rest.startswith(opening):
                return self.fault(name, supported=False)
        return self.fault(f"a group that begins with ({one_line(rest)}")

    def _comment(self) -> None:
        end = self._text.find(")", self._at)
        if end < 0:
            raise self.fault("a comment that is not closed")
        self._at = end + 1

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, char: str) -> bool:
        found = self._peek() == char
        self._at += found
        return found
