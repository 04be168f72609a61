"""A GGUF header as bytes.

``gguf.GGUFWriter`` collects and names the keys; only the packing is done here, because its own
takes a call per array element, which for a vocabulary is most of a plan's time.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#file-structure
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gguf
from gguf import GGUFValueType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .ggml import GGMLType
    from .tensors import GGUFTensor

_SCALARS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}

_LENGTH = struct.Struct("<Q")

#: The lengths of nearly all tokens, packed.
_LENGTHS = [_LENGTH.pack(length) for length in range(256)]


@dataclass(frozen=True, slots=True)
class PackedKeys:
    """Metadata as bytes, and the number of keys in it."""

    count: int
    data: bytes

    @classmethod
    def of(cls, header: bytes, end: int) -> PackedKeys:
        """Return the keys of a header; they end at byte ``end``."""
        return cls(struct.unpack_from("<Q", header, 16)[0], header[24:end])

    def plus(self, entries: Iterable[bytes]) -> PackedKeys:
        """Return these keys followed by others, packed one by one."""
        more = list(entries)
        return PackedKeys(self.count + len(more), self.data + b"".join(more))

    @property
    def end(self) -> int:
        """Where the metadata ends in a file, in bytes: it follows magic, version and counts."""
        return 24 + len(self.data)


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for the text of a key whose value is known last: its place in the file, in bytes."""

    offset: int
    nbytes: int


def pack_keys(writer: gguf.GGUFWriter) -> PackedKeys:
    """Return the keys that ``writer`` holds, in their order."""
    (keys,) = writer.kv_data
    parts: list[bytes] = []
    for key, entry in keys.items():
        parts += [_string(key), struct.pack("<I", entry.type)]
        parts.append(_value(entry.value, entry.type, entry.sub_type))
    return PackedKeys(len(keys), b"".join(parts))


def pack_number(key: str, value: int, kind: GGUFValueType = GGUFValueType.UINT32) -> bytes:
    """Return one key with a number."""
    return _string(key) + struct.pack("<I", kind) + struct.pack(f"<{_SCALARS[kind]}", value)


def pack_string(key: str, text: bytes) -> bytes:
    """Return one key with a string of any bytes."""
    return _string(key) + struct.pack("<I", GGUFValueType.STRING) + _string(text)


def append_key(header: bytes, keys_end: int, entry: bytes) -> bytes:
    """Return a header with one more key at ``keys_end``, the end of those it has.

    A vocabulary is copied once; to take the keys out and put them in again would copy it twice.
    """
    count = struct.unpack_from("<Q", header, 16)[0] + 1
    old = memoryview(header)
    return b"".join((old[:16], struct.pack("<Q", count), old[24:keys_end], entry, old[keys_end:]))


def pack_header(
    keys: PackedKeys,
    tensors: Sequence[GGUFTensor],
    kinds: Sequence[GGMLType],
    offsets: Sequence[int],
) -> bytes:
    """Return magic, keys and tensor descriptions; ``offsets`` count from the data's beginning."""
    parts = [struct.pack("<4sIQQ", b"GGUF", gguf.GGUF_VERSION, len(tensors), keys.count), keys.data]
    for tensor, kind, offset in zip(tensors, kinds, offsets, strict=True):
        shape = tensor.shape[::-1]  # ggml counts from the row length upwards
        parts.append(_string(tensor.name))
        parts.append(struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, int(kind), offset))
    return b"".join(parts)


def _string(text: str | bytes) -> bytes:
    data = text if isinstance(text, bytes) else text.encode("utf-8")
    return _LENGTH.pack(len(data)) + data


def _strings(texts: Sequence[str | bytes]) -> bytearray:
    packed = bytearray()
    for text in texts:
        data = text if isinstance(text, bytes) else text.encode("utf-8")
        packed += _LENGTHS[len(data)] if len(data) < len(_LENGTHS) else _LENGTH.pack(len(data))
        packed += data
    return packed


def _value(value: Any, kind: GGUFValueType, item_kind: GGUFValueType | None) -> bytes:
    if kind == GGUFValueType.STRING:
        return _string(value)
    if kind != GGUFValueType.ARRAY:
        return struct.pack(f"<{_SCALARS[kind]}", value)
    if item_kind is None:
        item_kind = GGUFValueType.get_type(value[0])
    head = struct.pack("<IQ", item_kind, len(value))
    if item_kind == GGUFValueType.STRING:
        return head + _strings(value)
    return head + struct.pack(f"<{len(value)}{_SCALARS[item_kind]}", *value)
