"""A GGUF's header -> frozen :class:`GGUFInfo`; and the pre-flight that refuses bad files.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every count is held against the
bytes that are left before it is believed, so a hostile file costs no time or memory. Read with
plain file access; no native code, no weights.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from .errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

_FETCH = "The file is damaged or incomplete; download or convert it again."

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


@dataclass(frozen=True)
class GGUFInfo:
    """What a GGUF's header says.

    Attributes:
        path: the file.
        version: 2 or 3.
        metadata: all keys; arrays of more than 256 items are a :class:`LongArray`.
        tensors: every tensor's description.
        nbytes: size of the file in bytes.
    """

    path: Path
    version: int
    metadata: Mapping[str, Any]
    tensors: tuple[TensorInfo, ...]
    nbytes: int

    @property
    def architecture(self) -> str:
        """``general.architecture``, e.g. "llama"."""
        return str(self.metadata["general.architecture"])

    @property
    def name(self) -> str:
        """The model's name, or the file's."""
        return str(self.metadata.get("general.name") or self.path.stem)

    @cached_property
    def n_parameters(self) -> int:
        """Number of weights."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def context_length(self) -> int:
        """Context the model was trained on, in tokens."""
        return int(self.hyper_parameter("context_length"))

    @property
    def n_layers(self) -> int:
        """Number of transformer layers."""
        return int(self.hyper_parameter("block_count"))

    @property
    def n_vocab(self) -> int:
        """Number of tokens."""
        tokens = self.metadata["tokenizer.ggml.tokens"]
        return tokens.count if isinstance(tokens, LongArray) else len(tokens)

    @property
    def chat_template(self) -> str | None:
        """The Jinja template the model was trained with, if the file has one."""
        template = self.metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    @cached_property
    def bytes_by_type(self) -> dict[str, int]:
        """Bytes of tensor data by type, largest first."""
        totals: dict[str, int] = {}
        for tensor in self.tensors:
            totals[tensor.type] = totals.get(tensor.type, 0) + tensor.nbytes
        return dict(sorted(totals.items(), key=lambda item: -item[1]))

    def hyper_parameter(self, key: str, default: Any = None) -> Any:
        """Return ``<architecture>.<key>``; ModelFileError when it is absent without a default."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if value is None:
            raise ModelFileError(
                f"{self.path}: key {self.architecture}.{key} is missing", hint=_FETCH
            )
        return value


def inspect(path: str | Path) -> GGUFInfo:
    """Read the header of the GGUF at ``path`` and check that the file is whole.

    Takes time with the vocabulary, not with the weights (about 0.1 s for 50k tokens), and loads
    no native code.

    Raises:
        ModelFileError: not a file, not a GGUF, truncated, or with fields that make no sense.
    """
    path = Path(path)
    try:
        if not path.is_file():
            kind = "is a folder" if path.is_dir() else "no such file"
            raise ModelFileError(f"{path}: {kind}", hint="Give the path of a .gguf file.")
        with path.open("rb") as file:
            info = _Parser(file, path).parse()
    except OSError as error:
        raise ModelFileError(
            f"{path}: {error.strerror or error}", hint="Check the file's permissions."
        ) from error
    _check_required(info)
    return info


class _Parser:
    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._size = path.stat().st_size
        self._at = 0

    def parse(self) -> GGUFInfo:
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
        return GGUFInfo(self._path, version, metadata, tensors, self._size)

    def _fail(self, problem: str) -> None:
        raise ModelFileError(f"{self._path}: {problem}", hint=_FETCH)

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


#: Keys every text model needs; llama.cpp's own message about them is far less clear.
_REQUIRED = ("block_count", "context_length", "embedding_length", "attention.head_count")


def _check_required(info: GGUFInfo) -> None:
    if not isinstance(info.metadata.get("general.architecture"), str):
        raise ModelFileError(f"{info.path}: key general.architecture is missing", hint=_FETCH)
    for key in _REQUIRED:
        info.hyper_parameter(key)
    if "tokenizer.ggml.tokens" not in info.metadata:
        raise ModelFileError(
            f"{info.path}: it holds no tokenizer (key tokenizer.ggml.tokens)",
            hint="This may be a projector or an adapter rather than a model; name the model file.",
        )
    if not info.tensors:
        raise ModelFileError(
            f"{info.path}: it holds no weights",
            hint="This is a vocabulary-only file or the first part of a split one.",
        )
