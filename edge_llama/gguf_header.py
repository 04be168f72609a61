"""The bytes of a GGUF header -> checked values.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every count is held against the
bytes that are left before it is believed, so a hostile file costs no time or memory.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from .errors import ModelFileError

if TYPE_CHECKING:
    from pathlib import Path

FETCH = "The file is damaged or incomplete; download or convert it again."

#: struct format by GGUF value type number, for the scalar types.
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9

#: Arrays longer than this keep only their length: a vocabulary is not needed to plan or inspect.
_LONG_ARRAY = 256
_MAX_DIMS = 4
_MAX_TENSOR_NAME = 63  # ggml's GGML_MAX_NAME less the final zero; longer ones abort in llama.cpp


@dataclass(frozen=True, slots=True)
class LongArray:
    """Stands for a metadata array that was skipped; only its length is known."""

    count: int


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a GGUF: row-major shape, type name, and its place in the file (bytes)."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """A whole header: version, metadata, tensors, and the size of the file in bytes."""

    version: int
    metadata: dict[str, Any]
    tensors: tuple[TensorInfo, ...]
    nbytes: int


class HeaderParser:
    """Reads one file's header; every fault is a ModelFileError."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._size = path.stat().st_size
        self._at = 0

    def parse(self) -> Header:
        """Return what the header says, once all of it has been checked."""
        magic = self._file.read(4)
        self._at = len(magic)
        if magic != b"GGUF":
            raise ModelFileError(
                f"{self._path}: not a GGUF file (it begins with {magic!r})",
                hint="Convert a checkpoint with: edge-llama convert FOLDER",
            )
        version = self._scalar("I")
        if version not in (2, 3):
            raise ModelFileError(
                f"{self._path}: GGUF version {version} is not supported",
                hint="Convert the original checkpoint again with: edge-llama convert FOLDER",
            )
        n_tensors, n_keys = self._scalar("Q"), self._scalar("Q")
        self._believe(n_tensors, 24, "tensors")
        self._believe(n_keys, 13, "keys")
        metadata: dict[str, Any] = {}
        for _ in range(n_keys):
            key = self._string("a key's name")
            if key in metadata:
                self._fail(f"key {key} appears twice")
            metadata[key] = self._value(key, self._scalar("I"))
        tensors = self._tensors(n_tensors, metadata.get("general.alignment", 32))
        return Header(version, metadata, tensors, self._size)

    def _fail(self, problem: str) -> None:
        raise ModelFileError(f"{self._path}: {problem}", hint=FETCH)

    def _believe(self, count: int, least_bytes: int, what: str) -> None:
        if count * least_bytes > self._size - self._at:
            self._fail(
                f"claims {count:,} {what}, but only {self._size - self._at:,} bytes are left"
            )

    def _bytes(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            self._fail(f"truncated at byte {self._size:,}, within the header")
        self._at += count
        return data

    def _scalar(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self._bytes(struct.calcsize(f"<{code}")))[0]

    def _string(self, what: str) -> str:
        length = self._scalar("Q")
        self._believe(length, 1, f"bytes for {what}")
        return self._bytes(length).decode("utf-8", errors="replace")

    def _value(self, key: str, kind: int) -> Any:
        if kind == _STRING:
            return self._string(key)
        if kind == _ARRAY:
            return self._array(key)
        if kind not in _SCALARS:
            self._fail(f"key {key} has unknown value type {kind}")
        return self._scalar(_SCALARS[kind])

    def _array(self, key: str) -> Any:
        kind, count = self._scalar("I"), self._scalar("Q")
        if kind == _STRING:
            self._believe(count, 8, f"strings in {key}")
            if count <= _LONG_ARRAY:
                return [self._string(key) for _ in range(count)]
            for _ in range(count):
                length = self._scalar("Q")
                self._believe(length, 1, f"bytes in {key}")
                self._file.seek(length, 1)
                self._at += length
            return LongArray(count)
        if kind not in _SCALARS:  # nested arrays exist on paper only
            self._fail(f"key {key} is an array of unknown value type {kind}")
        code = _SCALARS[kind]
        width = struct.calcsize(f"<{code}")
        self._believe(count, width, f"numbers in {key}")
        if count <= _LONG_ARRAY:
            return list(struct.unpack(f"<{count}{code}", self._bytes(count * width)))
        self._file.seek(count * width, 1)
        self._at += count * width
        return LongArray(count)

    def _tensors(self, count: int, alignment: object) -> tuple[TensorInfo, ...]:
        if (
            not isinstance(alignment, int)
            or not 8 <= alignment <= 2**20
            or alignment & (alignment - 1)
        ):
            self._fail(f"general.alignment = {alignment!r} is no power of two from 8")
        assert isinstance(alignment, int)  # noqa: S101 - narrowed above, _fail raises
        found = [self._tensor() for _ in range(count)]
        start = -(-self._at // alignment) * alignment
        placed = sorted(
            (
                TensorInfo(name, shape, kind, start + offset, size)
                for name, shape, kind, offset, size in found
            ),
            key=lambda tensor: tensor.offset,
        )
        end = start
        for tensor in placed:
            if tensor.offset < end or (tensor.offset - start) % alignment:
                self._fail(f"tensor {tensor.name} overlaps the one before it or is not aligned")
            end = tensor.offset + tensor.nbytes
            if end > self._size:
                self._fail(
                    f"truncated: tensor {tensor.name} ends at byte {end:,}, "
                    f"the file has {self._size:,}"
                )
        if len({tensor.name for tensor in placed}) != count:
            self._fail("two tensors have the same name")
        return tuple(placed)

    def _tensor(self) -> tuple[str, tuple[int, ...], str, int, int]:
        name = self._string("a tensor's name")
        if len(name.encode()) > _MAX_TENSOR_NAME:
            self._fail(f"a tensor's name has {len(name.encode())} bytes")
        n_dims = self._scalar("I")
        if not 1 <= n_dims <= _MAX_DIMS:
            self._fail(f"tensor {name} has {n_dims} dimensions")
        shape = tuple(self._scalar("Q") for _ in range(n_dims))[::-1]
        number, offset = self._scalar("I"), self._scalar("Q")
        try:
            kind = GGMLQuantizationType(number)
            elements, size = GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError):
            raise ModelFileError(
                f"{self._path}: tensor {name} has type number {number}, which is unknown",
                hint="The file may need a newer llama.cpp, or it is damaged.",
            ) from None
        total = math.prod(shape)
        if not 0 < total < 2**48 or shape[-1] % elements:
            self._fail(f"tensor {name} of type {kind.name} has the impossible shape {list(shape)}")
        return name, shape, kind.name, offset, total // elements * size
