"""torch.save's file format, written without torch: a zip archive with a pickle of protocol 2."""

from __future__ import annotations

import struct
import zipfile
from typing import TYPE_CHECKING, Any

import builders
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

STORAGES = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage"}


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(9, "little")
    return b"\x8a" + bytes([len(raw)]) + raw


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def name(module: str, attribute: str) -> bytes:
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def storage(key: str, dtype: str, count: int) -> bytes:
    kind = name("torch", STORAGES.get(dtype, dtype))
    return b"(" + text("storage") + kind + text(key) + text("cpu") + number(count) + b"tQ"


def tensor(
    key: str,
    dtype: str,
    count: int,
    shape: tuple[int, ...],
    *,
    stride: tuple[int, ...] | None = None,
    offset: int = 0,
) -> bytes:
    if stride is None:
        stride = tuple(int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape)))
    return (
        name("torch._utils", "_rebuild_tensor_v2")
        + b"("
        + storage(key, dtype, count)
        + number(offset)
        + numbers(shape)
        + numbers(stride)
        + b"\x89"
        + name("collections", "OrderedDict")
        + b")RtR"
    )


def parameter(value: bytes) -> bytes:
    hooks = name("collections", "OrderedDict") + b")R"
    return name("torch._utils", "_rebuild_parameter") + b"(" + value + b"\x88" + hooks + b"tR"


def state_dict(entries: Mapping[str, bytes]) -> bytes:
    """The pickle of an OrderedDict whose values are the given pieces, '_metadata' included."""
    items = b"".join(text(key) + value for key, value in entries.items())
    metadata = b"}" + text("_metadata") + b"}sb"
    return (
        b"\x80\x02" + name("collections", "OrderedDict") + b")R(" + items + b"u" + metadata + b"."
    )


def write_archive(
    path: Path,
    pickled: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    byteorder: bytes | None = b"little",
    compression: int = zipfile.ZIP_STORED,
    folder: str = "archive",
) -> Path:
    """The archive around a pickle and its storages, each aligned to 64 bytes as torch does."""
    with zipfile.ZipFile(path, "w", compression=compression) as archive:
        archive.writestr(f"{folder}/data.pkl", pickled)
        if byteorder is not None:
            archive.writestr(f"{folder}/byteorder", byteorder)
        for key, content in (storages or {}).items():
            entry = zipfile.ZipInfo(f"{folder}/data/{key}")
            entry.compress_type = compression
            start = archive.fp.tell() + 30 + len(entry.filename)  # type: ignore[union-attr]
            padding = -(start + 4) % 64
            entry.extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)
            archive.writestr(entry, content)
        archive.writestr(f"{folder}/version", b"3\n")
    return path


def write_torch(path: Path, tensors: Mapping[str, tuple[str, npt.NDArray[Any]]]) -> Path:
    """Arrays with their dtype names, each in a storage of its own, as torch.save stores them."""
    pieces, storages = {}, {}
    for i, (key, (dtype, array)) in enumerate(tensors.items()):
        pieces[key] = tensor(str(i), dtype, array.size, array.shape)
        storages[str(i)] = np.ascontiguousarray(array).tobytes()
    return write_archive(path, state_dict(pieces), storages)


def packed(
    tensors: Mapping[str, npt.NDArray[np.float32]], dtype: str
) -> dict[str, tuple[str, npt.NDArray[Any]]]:
    return {key: (dtype, builders.pack(values, dtype)) for key, values in tensors.items()}
