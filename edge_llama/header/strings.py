"""Arrays of strings in a GGUF header, handled where they are: a vocabulary has up to a million.

A string is its length (8 bytes, little-endian) and its bytes. Arrays are walked with numpy, some
thousand strings at a time, and compared by hashes; no Python object is made per string.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .buffer import SLACK

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from .buffer import HeaderBuffer

    Int64Array = npt.NDArray[np.int64]

_LENGTH = struct.Struct("<Q")
_WINDOW = 2**20
#: Strings that are read one by one where the fast way stops, before it is tried again; and how
#: many it must have found to be worth it (it costs about 1 ms).
_STEPS, _WORTH = 64, 2048
_NOTHING = np.zeros(0, np.int64), np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class StringArray:
    """Strings that stay in the header's bytes.

    Attributes:
        buffer: the header, uint8.
        starts: where each string begins, int64 ``[count]``.
        lengths: how many bytes each has, int64 ``[count]``.
    """

    buffer: npt.NDArray[np.uint8]
    starts: Int64Array
    lengths: Int64Array

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> bytes:
        start = int(self.starts[index])
        return self.buffer[start : start + int(self.lengths[index])].tobytes()

    def as_c(self) -> StringArray:
        """Return the strings as C reads them: each ends at its first zero byte."""
        cut = np.zeros(len(self), bool)
        for rows, words, masks in self._words():
            # A zero byte in a word, after the bytes beyond the string's end are set (Mycroft).
            filled = words | ~masks
            low, high = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
            cut[rows] |= ((filled - low) & ~filled & high) != 0
        if not cut.any():
            return self
        lengths = self.lengths.copy()
        for index in np.flatnonzero(cut).tolist():
            lengths[index] = self[index].index(b"\0")
        return StringArray(self.buffer, self.starts, lengths)

    def first_duplicate(self) -> tuple[int, int] | None:
        """Return the indices of two equal strings, if there are any; empty ones do not count."""
        hashes = self.lengths.astype(np.uint64)
        for rows, words, masks in self._words():
            mixed = (hashes[rows] ^ (words & masks)) * np.uint64(0x9E3779B97F4A7C15)
            hashes[rows] = mixed ^ (mixed >> np.uint64(29))
        ordered = np.sort(hashes)
        same = ordered[1:][ordered[1:] == ordered[:-1]]
        # Only strings of equal hashes are looked at.
        first: dict[bytes, int] = {}
        for index in np.flatnonzero(np.isin(hashes, same)).tolist() if len(same) else ():
            text = self[index]
            if text and first.setdefault(text, index) != index:
                return first[text], index
        return None

    def select(self, chosen: npt.NDArray[np.bool_]) -> set[bytes]:
        """Return the strings that ``chosen`` (bool ``[count]``) marks."""
        return {self[index] for index in np.flatnonzero(chosen).tolist()}

    def begin_with(self, byte: int) -> npt.NDArray[np.bool_]:
        """Mark the strings that begin with ``byte``."""
        marks: npt.NDArray[np.bool_] = (self.buffer[self.starts] == byte) & (self.lengths > 0)
        return marks

    def _words(
        self,
    ) -> Iterator[tuple[Int64Array, npt.NDArray[np.uint64], npt.NDArray[np.uint64]]]:
        """Yield eight bytes of every string at a time: which strings, the words, their masks."""
        # Overlapping 8-byte words, one at every byte; the buffer has slack at its end.
        words = np.ndarray(
            (len(self.buffer) - SLACK + 1,), np.dtype("<u8"), self.buffer, strides=(1,)
        )
        masks = np.array([256**n - 1 for n in range(9)], np.uint64)
        rows, at = np.flatnonzero(self.lengths > 0), 0
        while len(rows):
            left = self.lengths[rows] - at
            yield rows, words[self.starts[rows] + at], masks[np.minimum(left, 8)]
            rows, at = rows[left > 8], at + 8


def read_strings(buffer: HeaderBuffer, at: int, count: int) -> tuple[StringArray, int]:
    """Read ``count`` strings from byte ``at`` on; return them and where they end.

    Raises:
        ModelFileError: one of them goes beyond the end of the file or of what is read.
    """
    starts = [np.zeros(0, np.int64)]
    lengths = [np.zeros(0, np.int64)]
    steps = _STEPS
    while count:
        found, sizes = _fast(buffer, at, count) if count > _STEPS else _NOTHING
        steps = _STEPS if len(found) >= _WORTH else min(2 * steps, _WINDOW)
        if not len(found):
            found, sizes = _one_by_one(buffer, at, min(count, steps))
        starts.append(found)
        lengths.append(sizes)
        at = int(found[-1] + sizes[-1])
        count -= len(found)
        buffer.reach(at)
    return StringArray(buffer.array, np.concatenate(starts), np.concatenate(lengths)), at


def _fast(buffer: HeaderBuffer, at: int, count: int) -> tuple[Int64Array, Int64Array]:
    """Return starts and lengths of the strings from ``at`` on, as far as they are ordinary.

    An ordinary string has 1 to 65,535 bytes and none is zero, so that six or seven zero bytes are
    the upper ones of a length. A place is believed only if the length before it leads there.
    """
    end = min(at + _WINDOW, buffer.read_ahead(at + _WINDOW))
    window = buffer.array[at:end]
    zero = window == 0
    pair = zero[:-1] & zero[1:]
    four = pair[:-2] & pair[2:]
    six = four[:-2] & four[2:]
    runs = np.flatnonzero(six[1:] & ~six[:-1]) + 1  # where six or more zeros begin
    runs = runs[: len(runs) - 1]  # the last may lack what follows it
    places = runs - np.where(zero[runs + 6], 1, 2)
    if not len(places) or places[0] != 0:
        return _NOTHING
    sizes = window[places].astype(np.int64) + 256 * window[places + 1].astype(np.int64)
    leads = places[:-1] + 8 + sizes[:-1] == places[1:]
    good = min(len(places) if leads.all() else int(np.argmin(leads)) + 1, count)
    return at + places[:good] + 8, sizes[:good]


def _one_by_one(buffer: HeaderBuffer, at: int, count: int) -> tuple[Int64Array, Int64Array]:
    """Return starts and lengths of the next ``count`` strings, whatever they hold."""
    starts, lengths = [], []
    for _ in range(count):
        buffer.reach(at + 8)
        (length,) = _LENGTH.unpack_from(buffer.view, at)
        if length > buffer.file_size - at:
            buffer.fail(f"truncated: a string at byte {at:,} claims {length:,} bytes")
        starts.append(at + 8)
        lengths.append(length)
        at += 8 + length
        buffer.reach(at)
    return np.array(starts, np.int64), np.array(lengths, np.int64)
