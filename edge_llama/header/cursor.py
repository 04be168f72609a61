"""Reads the values of a GGUF header one after the other.

Every count is held against the bytes that are left, and against a bound, before it is believed, so
that a hostile file costs neither time nor memory: neither here nor in llama.cpp, which reads it
next.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from .buffer import HeaderBuffer
from .strings import StringArray, read_strings

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    import numpy.typing as npt

#: Names of the value types, by number in the file.
KINDS = {
    0: "u8",
    1: "i8",
    2: "u16",
    3: "i16",
    4: "u32",
    5: "i32",
    6: "f32",
    7: "bool",
    8: "str",
    9: "arr",
    10: "u64",
    11: "i64",
    12: "f64",
}
_SCALARS = {
    kind: (struct.Struct(f"<{code}"), np.dtype(f"<{code}"))
    for kind, code in zip(
        ("u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "u64", "i64", "f64"),
        "BbHhIif?Qqd",
        strict=True,
    )
}

#: Bounds above what models have (262k tokens and 515k merges in Gemma 4): strings in all arrays,
#: numbers in one, bytes of text outside the vocabulary. Python and llama.cpp need several times
#: that for copies.
_MAX_ITEMS = 2**20
_MAX_TEXT = 8 * 2**20


class Cursor:
    """A place in a header; each method reads from there on, and moves it."""

    def __init__(self, file: FileIO, path: Path) -> None:
        self._buffer = HeaderBuffer(file, path)
        self.file_size = self._buffer.file_size
        self.at = 0
        self._strings = self._text = 0  # read so far

    def fail(self, problem: str, **hint: str) -> NoReturn:
        """Raise ModelFileError for this file."""
        self._buffer.fail(problem, **hint)

    def believe(self, count: int, least_bytes: int, what: str, most: int) -> None:
        """Check that ``count`` things can be there; ModelFileError if not."""
        left = self.file_size - self.at
        if count * least_bytes > left:
            self.fail(f"claims {count:,} {what}, but only {left:,} bytes are left")
        if count > most:
            self.fail(f"claims {count:,} {what}; no model has more than {most:,}")

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        start, self.at = self.at, self.at + count
        self._buffer.reach(self.at)
        return bytes(self._buffer.view[start : self.at])

    def scalar(self, kind: str) -> Any:
        """Return a number or bool."""
        code = _SCALARS[kind][0]
        self._buffer.reach(self.at + code.size)
        (value,) = code.unpack_from(self._buffer.view, self.at)
        self.at += code.size
        return value

    def text(self, what: str) -> str:
        """Return a string; ``what`` it is is for messages."""
        length = self.scalar("u64")
        self._count_text(length, what)
        return self.take(length).decode("utf-8", errors="replace")

    def strings(self, key: str, *, vocabulary: bool) -> StringArray:
        """Return an array of strings, which may be long if it is part of a vocabulary."""
        count = self.scalar("u64")
        self.believe(count, 8, f"strings in {key}", _MAX_ITEMS - self._strings)
        self._strings += count
        items, end = read_strings(self._buffer, self.at, count)
        if not vocabulary:
            self._count_text(end - self.at, key)
        self.at = end
        return items

    def numbers(self, key: str, kind: str) -> npt.NDArray[Any]:
        """Return an array of numbers, as a view of the header's bytes."""
        count, dtype = self.scalar("u64"), _SCALARS[kind][1]
        self.believe(count, dtype.itemsize, f"numbers in {key}", _MAX_ITEMS)
        start, self.at = self.at, self.at + count * dtype.itemsize
        self._buffer.reach(self.at)
        return np.frombuffer(self._buffer.array, dtype, count, start)

    def _count_text(self, length: int, what: str) -> None:
        self.believe(length, 1, f"bytes for {what}", _MAX_TEXT - self._text)
        self._text += length
