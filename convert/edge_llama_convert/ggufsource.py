"""Read the header of a GGUF that is a source: metadata as raw bytes, tensors by place.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Metadata is kept as the file
has it, so that it can be carried over exactly. Every count is held against the bytes that are
left before it is believed, so a hostile file costs neither time nor memory.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from gguf import GGMLQuantizationType

from .errors import SourceError, UnsupportedError
from .fileio import check_regular
from .refs import BLOCK_SIZES, TensorRef

if TYPE_CHECKING:
    from pathlib import Path

AGAIN = "The file is damaged or incomplete; fetch it again."

#: struct format by GGUF value type number, for the scalar types.
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9

#: No real header is larger: a vocabulary of 260,000 tokens and its merges take 12 MB.
MAX_HEADER_BYTES = 512 * 1024 * 1024
_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One metadata key.

    ``raw`` is key, type and value as the file has them; ``value`` is decoded for scalars and
    strings, None for arrays.
    """

    raw: bytes
    value: Any


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """Metadata in the file's order, and the tensors by name; of several files those of all."""

    metadata: dict[str, KeyValue]
    tensors: dict[str, TensorRef]


def read_gguf_header(path: Path) -> GGUFHeader:
    """Return metadata and tensors of one GGUF, without reading weights.

    Raises:
        SourceError: the file is missing, truncated or damaged.
        UnsupportedError: another version of the format, or an unknown tensor type.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            return _Parser(file, path).parse()
    except OSError as error:
        raise SourceError(
            f"{path}: {error.strerror or error}", hint="Check the path and its permissions."
        ) from error


class _Parser:
    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._size = file.seek(0, 2)
        self._raw = bytearray()  # the beginning of the file, as far as it was needed
        self._at = 0
        file.seek(0)

    def parse(self) -> GGUFHeader:
        magic = bytes(self._take(4)) if self._size >= 4 else b""
        if magic != b"GGUF":
            raise SourceError(
                f"{self._path}: not a GGUF file (it begins with {magic!r})",
                hint="Give a GGUF file, or a checkpoint's folder.",
            )
        version = self._scalar("I")
        if version not in (2, 3):
            raise UnsupportedError(
                f"{self._path}: GGUF version {version}; supported are 2 and 3",
                hint="Convert the original checkpoint, or get a newer file.",
            )
        n_tensors, n_keys = self._scalar("Q"), self._scalar("Q")
        self._believe(n_tensors, 24, "tensors")
        self._believe(n_keys, 13, "keys")
        metadata: dict[str, KeyValue] = {}
        for _ in range(n_keys):
            start = self._at
            key = self._string("a key's name")
            if key in metadata:
                self._fail(f"key {key} appears twice")
            value = self._value(key, self._scalar("I"))
            metadata[key] = KeyValue(bytes(self._raw[start : self._at]), value)
        alignment = metadata["general.alignment"].value if "general.alignment" in metadata else 32
        if type(alignment) is not int or alignment not in {2**n for n in range(3, 21)}:
            self._fail(f"general.alignment = {alignment!r} is no power of two from 8")
        return GGUFHeader(metadata, self._tensors(n_tensors, alignment))

    def _fail(self, problem: str) -> NoReturn:
        raise SourceError(f"{self._path}: {problem}", hint=AGAIN)

    def _believe(self, count: int, least_bytes: int, what: str) -> None:
        left = min(self._size, MAX_HEADER_BYTES) - self._at
        if count * least_bytes > left:
            self._fail(f"claims {count:,} {what}, but only {max(left, 0):,} bytes are left")

    def _need(self, count: int) -> int:
        """Move on by ``count`` bytes, reading them if need be; return where they begin."""
        self._believe(count, 1, "bytes")
        start, self._at = self._at, self._at + count
        while len(self._raw) < self._at:
            block = self._file.read(max(_BLOCK, self._at - len(self._raw)))
            if not block:
                self._fail("the file became shorter while being read")
            self._raw += block
        return start

    def _take(self, count: int) -> bytes:
        start = self._need(count)
        return bytes(self._raw[start : start + count])

    def _scalar(self, code: str) -> Any:
        code = f"<{code}"
        start = self._need(struct.calcsize(code))
        return struct.unpack_from(code, self._raw, start)[0]

    def _string(self, what: str) -> str:
        try:
            return self._take(self._scalar("Q")).decode("utf-8")
        except UnicodeDecodeError:
            self._fail(f"{what} is not UTF-8")

    def _value(self, key: str, kind: int) -> Any:
        if kind == _STRING:
            # Not the header's business: llama.cpp takes a value's bytes as they are.
            return self._take(self._scalar("Q")).decode("utf-8", errors="replace")
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind != _ARRAY:
            self._fail(f"key {key} has unknown value type {kind}")
        kind, count = self._scalar("I"), self._scalar("Q")
        if kind == _STRING:
            self._believe(count, 8, f"strings in {key}")
            for _ in range(count):
                self._need(self._scalar("Q"))
        elif kind in _SCALARS:
            width = struct.calcsize(f"<{_SCALARS[kind]}")
            self._believe(count, width, f"numbers in {key}")
            self._need(count * width)
        else:  # nested arrays exist on paper only
            self._fail(f"key {key} is an array of unknown value type {kind}")
        return None

    def _tensors(self, count: int, alignment: int) -> dict[str, TensorRef]:
        found = [self._tensor() for _ in range(count)]
        start = -(-self._at // alignment) * alignment
        tensors: dict[str, TensorRef] = {}
        end = start
        for name, dtype, shape, offset in sorted(found, key=lambda entry: entry[3]):
            ref = TensorRef(name, dtype, shape, self._path, start + offset)
            if name in tensors:
                self._fail(f"tensor {name} appears twice")
            if ref.offset < end or offset % alignment:
                self._fail(f"tensor {name} overlaps the one before it or is not aligned")
            end = ref.offset + ref.nbytes
            if end > self._size:
                self._fail(
                    f"truncated: tensor {name} ends at byte {end:,}, the file has {self._size:,}"
                )
            tensors[name] = ref
        return tensors

    def _tensor(self) -> tuple[str, str, tuple[int, ...], int]:
        name = self._string("a tensor's name")
        if len(name.encode()) > 63:  # ggml's GGML_MAX_NAME less the final zero
            self._fail(f"a tensor's name has {len(name.encode())} bytes")
        n_dims = self._scalar("I")
        if not 1 <= n_dims <= 4:
            self._fail(f"tensor {name} has {n_dims} dimensions")
        shape = tuple(self._scalar("Q") for _ in range(n_dims))[::-1]
        number, offset = self._scalar("I"), self._scalar("Q")
        try:
            dtype = GGMLQuantizationType(number).name
        except ValueError:
            raise UnsupportedError(
                f"{self._path}: tensor {name} has type number {number}, which is unknown",
                hint="The file may need a newer llama.cpp, or it is damaged.",
            ) from None
        if not 0 < math.prod(shape) < 2**48 or shape[-1] % BLOCK_SIZES[dtype][0]:
            self._fail(f"tensor {name} of type {dtype} has the impossible shape {list(shape)}")
        return name, dtype, squeezed(shape), offset


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a row-major shape without leading ones, as ggml counts dimensions."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape
