"""The bytes of a GGUF header -> checked values.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .cursor import KINDS, Cursor
from .ggml_types import TENSOR_TYPES
from .strings import StringArray

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    import numpy.typing as npt

#: Arrays longer than this keep only their length in the metadata; llama.cpp has at most as many
#: layers, so nothing that is given per layer is longer. And how many items are kept in all.
LONG_ARRAY = 512
_MAX_LISTED = 2**17

_MAX_KEYS = _MAX_TENSORS = 2**16
_MAX_DIMS = 4
_MAX_TENSOR_NAME = 63  # ggml's GGML_MAX_NAME less the final zero
_VOCABULARY = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges")


@dataclass(frozen=True, slots=True)
class LongArray:
    """Stands for a long metadata array of which only the length is kept."""

    count: int


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a GGUF: row-major shape, type name, and its place in the file (bytes).

    ``part`` is the index of the file for models that are split into several.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    nbytes: int
    part: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """A whole header.

    Attributes:
        version: 2 or 3.
        metadata: values by key; long arrays are a :class:`LongArray`.
        kinds: the value types by key, like "u32" or "arr[str]".
        arrays: the items of all arrays by key; they view the header's bytes.
        tensors: in the order of the file.
        nbytes: size of the file.
    """

    version: int
    metadata: dict[str, Any]
    kinds: dict[str, str]
    arrays: dict[str, StringArray | npt.NDArray[Any]]
    tensors: tuple[TensorInfo, ...]
    nbytes: int


class _Place(NamedTuple):
    """What the header says of a tensor; its offset is within the data."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    nbytes: int


class HeaderParser:
    """Reads one file's header; every fault is a ModelFileError."""

    def __init__(self, file: FileIO, path: Path) -> None:
        self._cursor = Cursor(file, path)
        self._fail = self._cursor.fail
        self._metadata: dict[str, Any] = {}
        self._kinds: dict[str, str] = {}
        self._arrays: dict[str, StringArray | npt.NDArray[Any]] = {}
        self._listed = 0

    def parse(self) -> Header:
        """Return what the header says, once its form has been checked."""
        cursor = self._cursor
        magic = cursor.take(min(4, cursor.file_size))
        if magic != b"GGUF":
            self._fail(
                f"not a GGUF file (it begins with {magic!r})",
                hint="Convert a checkpoint with: edge-llama convert FOLDER",
            )
        version = cursor.scalar("u32")
        if version not in (2, 3):
            self._fail(
                "it is a big-endian GGUF, which this machine cannot run"
                if version and not version & 0xFFFF
                else f"GGUF version {version} is not supported",
                hint="Convert the original checkpoint again with: edge-llama convert FOLDER",
            )
        n_tensors, n_keys = cursor.scalar("u64"), cursor.scalar("u64")
        cursor.believe(n_tensors, 24, "tensors", _MAX_TENSORS)
        cursor.believe(n_keys, 13, "keys", _MAX_KEYS)
        for _ in range(n_keys):
            self._key()
        tensors = self._tensors(n_tensors)
        size = cursor.file_size
        return Header(version, self._metadata, self._kinds, self._arrays, tensors, size)

    def _key(self) -> None:
        key = self._cursor.text("a key's name")
        if not key or "\0" in key:  # C would read another name
            self._fail(f"key {key!r} has no proper name")
        if key in self._metadata:
            self._fail(f"key {key} appears twice")
        number = self._cursor.scalar("u32")
        kind = KINDS.get(number)
        if kind is None:
            self._fail(f"key {key} has unknown value type {number}")
        if kind == "arr":
            self._array(key)
            return
        self._kinds[key] = kind
        # llama.cpp takes strings as C does: up to the first zero.
        self._metadata[key] = (
            self._cursor.text(key).partition("\0")[0]
            if kind == "str"
            else self._cursor.scalar(kind)
        )

    def _array(self, key: str) -> None:
        number = self._cursor.scalar("u32")
        kind = KINDS.get(number)
        if kind is None or kind == "arr":  # nested arrays exist on paper only
            self._fail(f"key {key} is an array of unknown value type {number}")
        items: StringArray | npt.NDArray[Any] = (
            self._cursor.strings(key, vocabulary=key in _VOCABULARY)
            if kind == "str"
            else self._cursor.numbers(key, kind)
        )
        self._kinds[key], self._arrays[key] = f"arr[{kind}]", items
        if len(items) > min(LONG_ARRAY, _MAX_LISTED - self._listed):
            self._metadata[key] = LongArray(len(items))
            return
        self._listed += len(items)
        self._metadata[key] = (
            [items[index].decode("utf-8", errors="replace") for index in range(len(items))]
            if isinstance(items, StringArray)
            else items.tolist()
        )

    def _tensors(self, count: int) -> tuple[TensorInfo, ...]:
        alignment = self._metadata.get("general.alignment", 32)
        if (
            self._kinds.get("general.alignment", "u32") != "u32"
            or not alignment
            or alignment & (alignment - 1)
        ):
            self._fail(f"general.alignment = {alignment!r} is no power of two of type u32")
        found = [self._tensor() for _ in range(count)]
        start = -(-self._cursor.at // alignment) * alignment
        file_size, end = self._cursor.file_size, 0
        tensors: dict[str, TensorInfo] = {}
        for name, shape, kind, offset, size in found:
            if offset != end:  # ggml wants one right after the other
                self._fail(f"tensor {name} has offset {offset:,}; {end:,} was expected")
            last = start + offset + size
            if last > file_size:
                self._fail(
                    f"truncated: tensor {name} ends at byte {last:,}, the file has {file_size:,}"
                )
            if name in tensors:
                self._fail(f"two tensors have the name {name}")
            tensors[name] = TensorInfo(name, shape, kind, start + offset, size)
            end = -(-(offset + size) // alignment) * alignment
        return tuple(tensors.values())

    def _tensor(self) -> _Place:
        cursor = self._cursor
        name = cursor.text("a tensor's name")
        if len(name.encode()) > _MAX_TENSOR_NAME or "\0" in name:
            self._fail(f"tensor {name[:80]!r}: the name is longer than {_MAX_TENSOR_NAME} bytes")
        n_dims = cursor.scalar("u32")
        if n_dims > _MAX_DIMS:
            self._fail(f"tensor {name} has {n_dims} dimensions")
        # A scalar has no dimensions; like ggml, it is taken for a row of one element.
        shape = tuple(cursor.scalar("u64") for _ in range(n_dims))[::-1] or (1,)
        number, offset = cursor.scalar("u32"), cursor.scalar("u64")
        kind = TENSOR_TYPES.get(number)
        if kind is None:
            self._fail(
                f"tensor {name} has type number {number}, which is unknown",
                hint="The file may need a newer llama.cpp, or it is damaged.",
            )
        total = math.prod(shape)
        if not 0 < total < 2**48 or shape[-1] % kind.block:
            self._fail(f"tensor {name} of type {kind.name} has the impossible shape {list(shape)}")
        return _Place(name, shape, kind.name, offset, total // kind.block * kind.nbytes)
