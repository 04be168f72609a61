"""The files of llama-imatrix, GGUF and the older ``.dat``: what they hold, and where.

Formats: ``save_imatrix`` and ``save_imatrix_legacy`` in llama.cpp's tools/imatrix/imatrix.cpp;
meaning: ``load_imatrix`` in tools/quantize/quantize.cpp. Only an index is read, every size held
against the file's; the values are read one tensor at a time, when their number is known to fit.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from .errors import SourceError
from .fileio import SharedFile, check_regular
from .ggufsource import GGUFHeader, KeyValue, read_gguf_header
from .sourcefiles import SourceFile, record_one

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

_AGAIN = "Make it again with llama-imatrix, from this model."

#: What a GGUF calls the two tensors that belong to one of the model's.
_SUMS, _COUNTS = ".in_sum2", ".counts"

_DATASETS, _CHUNKS = "imatrix.datasets", "imatrix.chunk_count"
_REQUIRED = (_DATASETS, _CHUNKS, "imatrix.chunk_size")

_MAX_NAME = 63  # ggml's GGML_MAX_NAME less the final zero


@dataclass(frozen=True, slots=True)
class _Place:
    """Some float32 values of the file: the first one's offset in bytes, and their number."""

    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What the file holds for one tensor of the model.

    Attributes:
        sums: of the squared inputs, by column, one matrix (expert) after the other.
        counts: of the inputs summed up: a place, one number for each matrix (GGUF); or the one
            number that the values were multiplied with (``.dat``).
    """

    sums: _Place
    counts: _Place | int


@dataclass(frozen=True)
class ImatrixFile:
    """The index of an importance matrix.

    Attributes:
        file: the file, as it was before it was read.
        given: the path as the caller wrote it; llama-quantize stores that text.
        entries: by the name of the model's tensor.
        dataset: the text file it was computed on, the first of several; None when it is not said.
        chunks: number of chunks of the text, 0 when it is not said.
    """

    file: SourceFile
    given: bytes
    entries: Mapping[str, Entry]
    dataset: bytes | None
    chunks: int

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.file.path

    def read(self, file: SharedFile, name: str) -> Floats:
        """Return the mean squares of one tensor's inputs, float32, as llama-quantize computes them.

        Raises:
            SourceError: a value is negative, NaN or Inf.
        """
        entry = self.entries[name]
        sums = self._floats(file, name, entry.sums)
        if isinstance(entry.counts, int):
            return sums / np.float32(entry.counts) if entry.counts else sums
        counts = np.floor(self._floats(file, name + _COUNTS, entry.counts) + np.float64(0.5))
        matrices = sums.reshape(len(counts), -1)
        # An expert that no token was sent to: all of its columns count alike.
        means = np.ones_like(matrices)
        seen = counts > 0
        means[seen] = matrices[seen] / counts[seen, None].astype(np.float32)
        return means.reshape(-1)

    def _floats(self, file: SharedFile, name: str, place: _Place) -> Floats:
        values = np.empty(place.count, dtype="<f4")
        file.read_into(values.view(np.uint8).data, place.offset)
        wrong = np.flatnonzero(~((values >= 0) & (values < np.inf)))
        if wrong.size:
            fail(self.path, f"{name}: value {wrong[0]} is {values[wrong[0]]}")
        return values.astype(np.float32, copy=False)


def fail(path: Path, problem: str) -> NoReturn:
    """Raise SourceError about an importance matrix."""
    raise SourceError(f"{path}: importance matrix: {problem}", hint=_AGAIN)


def read_imatrix(path: str | Path) -> ImatrixFile:
    """Read the index of a file of either format.

    Raises:
        SourceError: the file is missing, damaged, or no importance matrix.
    """
    given, path = os.fsencode(path), Path(path)
    check_regular(path)
    try:
        file = record_one(path)
        with path.open("rb") as opened:
            magic = opened.read(4)
    except OSError as error:
        fail(path, error.strerror or str(error))
    return (_read_gguf if magic == b"GGUF" else _read_dat)(file, given)


def _read_gguf(file: SourceFile, given: bytes) -> ImatrixFile:
    path = file.path
    header = read_gguf_header(path)
    missing = [key for key in _REQUIRED if key not in header.metadata]
    if missing:
        fail(path, f"key {missing[0]} is missing: this GGUF is something else")
    chunks = header.metadata[_CHUNKS].value
    if type(chunks) is not int or not 0 <= chunks < 2**31:
        fail(path, f"{_CHUNKS} = {chunks!r} is no number of chunks")
    dataset = _first_text(path, header.metadata[_DATASETS])
    return ImatrixFile(file, given, _gguf_entries(path, header), dataset, chunks)


def _gguf_entries(path: Path, header: GGUFHeader) -> dict[str, Entry]:
    places: dict[str, dict[str, _Place]] = {}
    for name, ref in header.tensors.items():
        suffix = next((end for end in (_SUMS, _COUNTS) if name.endswith(end)), None)
        if suffix is None:
            continue
        if ref.dtype != "F32":
            fail(path, f"tensor {name} is {ref.dtype}, not F32")
        place = _Place(ref.offset, ref.nbytes // 4)
        places.setdefault(name.removesuffix(suffix), {})[suffix] = place
    entries: dict[str, Entry] = {}
    for name, pair in places.items():
        for suffix in (_SUMS, _COUNTS):
            if suffix not in pair:
                fail(path, f"tensor {name}{suffix} is missing")
        sums, counts = pair[_SUMS], pair[_COUNTS]
        if sums.count % counts.count:
            fail(path, f"{name}: {sums.count} values do not divide into {counts.count} matrices")
        entries[name] = Entry(sums, counts)
    if not entries:
        fail(path, "it holds no entries")
    return entries


def _first_text(path: Path, entry: KeyValue) -> bytes | None:
    """Return the first of the texts in ``imatrix.datasets``, whose bounds are checked already."""
    start = 8 + len(_DATASETS)
    kind, items = struct.unpack_from("<2I", entry.raw, start)
    if (kind, items) != (9, 8):  # an array of strings
        fail(path, f"{_DATASETS} is no list of texts")
    (count,) = struct.unpack_from("<Q", entry.raw, start + 8)
    if not count:
        return None
    (length,) = struct.unpack_from("<Q", entry.raw, start + 16)
    return entry.raw[start + 24 : start + 24 + length]


class _Dat:
    """The old format, read from its beginning: int32 numbers, and texts with their lengths."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self.left = path.stat().st_size

    def __enter__(self) -> _Dat:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def take(self, count: int, what: str) -> bytes:
        self._believe(count, what)
        return self._file.read(count)

    def number(self, what: str, least: int, most: int) -> int:
        value: int = struct.unpack("<i", self.take(4, what))[0]
        if not least <= value <= most:
            fail(self._path, f"{what} is {value:,}; this may be no importance matrix at all")
        return value

    def floats(self, count: int, what: str) -> _Place:
        self._believe(count * 4, what)
        offset = self._file.tell()
        self._file.seek(count * 4, os.SEEK_CUR)
        return _Place(offset, count)

    def _believe(self, count: int, what: str) -> None:
        if count > self.left:
            fail(self._path, f"{what} takes {count:,} bytes, the file has {self.left:,} more")
        self.left -= count


def _read_dat(file: SourceFile, given: bytes) -> ImatrixFile:
    path = file.path
    entries: dict[str, Entry] = {}
    dataset: bytes | None = None
    chunks = 0
    most = 2**31 - 1
    with _Dat(path) as dat:
        for index in range(dat.number("the number of entries", 1, dat.left // 13)):
            label = f"entry {index + 1}"
            length = dat.number(f"the length of {label}'s name", 1, _MAX_NAME)
            name = _name(path, dat.take(length, f"{label}'s name"), label)
            if name in entries:
                fail(path, f"{name} appears twice")
            calls = dat.number(f"{name}: the number of calls", 0, most)
            count = dat.number(f"{name}: the number of values", 1, most)
            entries[name] = Entry(dat.floats(count, f"{name}: its values"), calls)
        if dat.left:  # older files end here
            chunks = dat.number("the number of chunks", 0, most)
        if dat.left:
            length = dat.number("the length of the dataset's name", 0, most)
            dataset = dat.take(length, "the dataset's name") or None
        if dat.left:
            fail(path, f"{dat.left:,} bytes follow its end")
    return ImatrixFile(file, given, entries, dataset, chunks)


def _name(path: Path, raw: bytes, label: str) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        name = ""
    if not name.isprintable() or not name:
        fail(path, f"{label}'s name is no text: {raw[:20]!r}")
    return name
