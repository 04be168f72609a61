"""GGUF files taken apart and put together again, right or wrong: for splits and hostile files."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_llama.header.cursor import KINDS
from edge_llama.header.ggml_types import TENSOR_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

NUMBERS = {name: number for number, name in KINDS.items()}
TYPE_NUMBERS = {kind.name: number for number, kind in TENSOR_TYPES.items()}
_CODES = dict(
    zip(
        ("u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "u64", "i64", "f64"),
        "BbHhIif?Qqd",
        strict=True,
    )
)


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def number(kind: str) -> int:
    """The number of a type in the file."""
    return NUMBERS["arr" if kind.startswith("arr[") else kind]


def encode(kind: str, value: Any) -> bytes:
    """A value as it stands in the file; ``kind`` is like "u32", "str" or "arr[str]"."""
    if kind.startswith("arr["):
        item = kind[4:-1]
        head = struct.pack("<IQ", NUMBERS[item], len(value))
        if item == "str":
            return head + b"".join(encode(item, one) for one in value)
        return head + struct.pack(f"<{len(value)}{_CODES[item]}", *value)
    if kind == "str":
        return string(value if isinstance(value, bytes) else value.encode())
    return struct.pack(f"<{_CODES[kind]}", value)


@dataclass
class Key:
    """One key; ``raw`` is its value without the type number."""

    name: bytes
    number: int
    raw: bytes


@dataclass
class Tensor:
    """One tensor; ``dims`` in ggml's order; an ``offset`` of None is the right one."""

    name: bytes
    dims: tuple[int, ...]
    number: int
    data: bytes
    offset: int | None = None


@dataclass
class GGUF:
    """A file; ``claims`` are counts of tensors and keys other than the true ones."""

    keys: list[Key]
    tensors: list[Tensor]
    version: int = 3
    claims: tuple[int | None, int | None] = (None, None)
    alignment: int = 32
    marks: list[int] = field(default_factory=list)

    def copy(self) -> GGUF:
        return replace(
            self,
            keys=[replace(key) for key in self.keys],
            tensors=[replace(tensor) for tensor in self.tensors],
        )

    def find(self, name: str) -> Key | None:
        return next((key for key in self.keys if key.name == name.encode()), None)

    def set(self, name: str, kind: str, value: Any) -> None:
        """Set a key to a value, in its place or at the end."""
        found = self.find(name)
        if found is None:
            self.keys.append(Key(name.encode(), number(kind), encode(kind, value)))
        else:
            found.number, found.raw = number(kind), encode(kind, value)

    def drop(self, name: str) -> None:
        self.keys = [key for key in self.keys if key.name != name.encode()]

    def strings(self, name: str) -> list[bytes]:
        """The items of an array of strings; none if it is missing or something else."""
        found = self.find(name)
        if found is None or found.raw[:4] != encode("u32", NUMBERS["str"]) or found.number != 9:
            return []
        texts, at = [], 12
        for _ in range(struct.unpack_from("<Q", found.raw, 4)[0]):
            (length,) = struct.unpack_from("<Q", found.raw, at)
            texts.append(found.raw[at + 8 : at + 8 + length])
            at += 8 + length
        return texts

    def to_bytes(self) -> bytes:
        """The file; ``marks`` then holds where each of its items begins."""
        n_tensors = len(self.tensors) if self.claims[0] is None else self.claims[0]
        n_keys = len(self.keys) if self.claims[1] is None else self.claims[1]
        out = bytearray(b"GGUF" + struct.pack("<IQQ", self.version, n_tensors, n_keys))
        self.marks = [4, 8, 16]
        for key in self.keys:
            self.marks.append(len(out))
            out += string(key.name) + struct.pack("<I", key.number) + key.raw
        data = bytearray()
        for tensor in self.tensors:
            self.marks.append(len(out))
            data += bytes(-len(data) % self.alignment)
            offset = len(data) if tensor.offset is None else tensor.offset
            out += string(tensor.name) + struct.pack("<I", len(tensor.dims))
            out += struct.pack(f"<{len(tensor.dims)}QIQ", *tensor.dims, tensor.number, offset)
            data += tensor.data
        if self.tensors:
            self.marks.append(len(out))
            out += bytes(-len(out) % self.alignment)
        self.marks.append(len(out))
        return bytes(out + data + bytes(-len(data) % self.alignment))


def read(path: Path) -> GGUF:
    """Take a sound file apart; its weights are read too."""
    data = path.read_bytes()
    n_tensors, n_keys = struct.unpack_from("<QQ", data, 8)
    model, at = GGUF([], []), 24
    for _ in range(n_keys):
        name, at = _text(data, at)
        (number,) = struct.unpack_from("<I", data, at)
        end = _skip(data, at + 4, KINDS[number])
        model.keys.append(Key(name, number, data[at + 4 : end]))
        at = end
    for _ in range(n_tensors):
        name, at = _text(data, at)
        (n_dims,) = struct.unpack_from("<I", data, at)
        *dims, number, offset = struct.unpack_from(f"<{n_dims}QIQ", data, at + 4)
        model.tensors.append(Tensor(name, tuple(dims), number, b"", offset))
        at += 16 + 8 * n_dims
    start = -(-at // 32) * 32
    for tensor in model.tensors:
        kind, first = TENSOR_TYPES[tensor.number], start + (tensor.offset or 0)
        size = int(np.prod(tensor.dims)) // kind.block * kind.nbytes
        tensor.data, tensor.offset = data[first : first + size], None
    return model


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    return data[at + 8 : at + 8 + length], at + 8 + length


def _skip(data: bytes, at: int, kind: str) -> int:
    """Return where a value ends."""
    if kind == "str":
        return _text(data, at)[1]
    if kind != "arr":
        return at + struct.calcsize(_CODES[kind])
    number, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if KINDS[number] != "str":
        return at + int(count) * struct.calcsize(_CODES[KINDS[number]])
    for _ in range(count):
        at = _text(data, at)[1]
    return at


def split(model: GGUF, counts: Sequence[int], *, n_tensors: int | None = None) -> list[GGUF]:
    """Cut a model into parts of so many tensors each, as ``llama-gguf-split`` does."""
    assert sum(counts) == len(model.tensors)
    parts, first = [], 0
    for number, count in enumerate(counts):
        keys = model.keys if number == 0 else []
        part = GGUF(keys, model.tensors[first : first + count]).copy()
        part.set("split.no", "u16", number)
        part.set("split.tensors.count", "i32", n_tensors or len(model.tensors))
        part.set("split.count", "u16", len(counts))
        parts.append(part)
        first += count
    return parts


def write_parts(folder: Path, stem: str, parts: Iterable[GGUF]) -> list[Path]:
    """Write the parts under the names that llama.cpp expects."""
    parts = [*parts]
    paths = [
        folder / f"{stem}-{number:05}-of-{len(parts):05}.gguf"
        for number in range(1, len(parts) + 1)
    ]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part.to_bytes())
    return paths
