"""The tensors of a file that ``torch.save`` wrote, without torch and without running its pickle.

Format, since PyTorch 1.6: an uncompressed zip archive with ``<name>/data.pkl`` (the containers),
``<name>/data/<key>`` (one storage each) and ``<name>/byteorder``; see torch/serialization.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import SourceError, UnsupportedError
from .folder import open_regular
from .refs import BLOCK_SIZES, TensorRef
from .unpickle import MAX_PICKLE_BYTES, StoredTensor, unpickle
from .zipindex import AGAIN, ZipIndex

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_DATA = "data.pkl"


def read_torch_file(
    path: Path, open_file: Callable[[Path], BinaryIO] = open_regular
) -> dict[str, TensorRef]:
    """Return the tensors of one torch file by name, without reading their data.

    Raises:
        SourceError: the file is missing, truncated or damaged.
        UnsupportedError: the format before PyTorch 1.6, a pickle that refers to anything but
            tensors, or a tensor of a memory layout that cannot be converted.
    """
    try:
        with open_file(path) as file:
            magic = file.read(4)
            if magic[:2] != b"PK":
                _refuse_other_format(path, magic)
            archive = ZipIndex(file, path)
            prefix = _prefix(path, archive)
            _check_byte_order(path, archive, prefix)
            content = unpickle(archive.read(prefix + _DATA, MAX_PICKLE_BYTES), path)
            return {
                name: _locate(path, archive, prefix, name, tensor)
                for name, tensor in _state_dict(path, content).items()
            }
    except OSError as error:
        raise SourceError(
            f"{path}: {error.strerror or error}", hint="Check the path and its permissions."
        ) from error


def _refuse_other_format(path: Path, magic: bytes) -> None:
    if magic[:1] == b"\x80":  # a pickle's first opcode; the magic number of the format follows
        raise UnsupportedError(
            f"{path}: a bare pickle, as PyTorch before 1.6 saved; it is not opened",
            hint="Use the *.safetensors files, or rewrite it where torch is installed: "
            "torch.save(torch.load(FILE, weights_only=True), FILE)",
        )
    raise SourceError(f"{path}: no PyTorch file (it begins with {magic!r})", hint=AGAIN)


def _prefix(path: Path, archive: ZipIndex) -> str:
    """Return the folder within the archive, which torch names after the file."""
    found = [name for name in archive.names if name.count("/") == 1 and name.endswith(f"/{_DATA}")]
    if len(found) != 1:
        raise SourceError(f"{path}: a zip archive, but not one of torch.save", hint=AGAIN)
    prefix = found[0].removesuffix(_DATA)
    if f"{prefix}constants.pkl" in archive.names:
        raise UnsupportedError(
            f"{path}: a TorchScript program, not a checkpoint",
            hint="Save its state_dict() with torch.save, or use the *.safetensors files.",
        )
    return prefix


def _check_byte_order(path: Path, archive: ZipIndex, prefix: str) -> None:
    name = f"{prefix}byteorder"  # absent before PyTorch 2.1: little, as everywhere that matters
    if name in archive.names and archive.read(name, 16) != b"little":
        raise UnsupportedError(
            f"{path}: saved on a big-endian machine",
            hint="Load and save it again with torch on a little-endian one.",
        )


def _state_dict(path: Path, content: Any) -> dict[str, StoredTensor]:
    entries = content if isinstance(content, dict) else {}
    others = [str(name) for name, value in entries.items() if not isinstance(value, StoredTensor)]
    if not entries or others:
        shown = ", ".join(repr(name[:60]) for name in others[:8])
        raise UnsupportedError(
            f"{path}: not a plain dictionary of tensors"
            + (f": {shown} {'are' if len(others) > 1 else 'is'} none" if others else ""),
            hint="A training checkpoint? Save the model's own state_dict() with torch.save.",
        )
    return {str(name): value for name, value in entries.items()}


def _locate(
    path: Path, archive: ZipIndex, prefix: str, name: str, tensor: StoredTensor
) -> TensorRef:
    storage = tensor.storage
    if not _is_contiguous(tensor):
        raise UnsupportedError(
            f"{path}: tensor {name} is a view with strides {list(tensor.stride)} "
            f"for the shape {list(tensor.shape)}",
            hint="Save it again with tensor.contiguous(), or use the *.safetensors files.",
        )
    _, size = BLOCK_SIZES[storage.dtype]
    member = archive.member(f"{prefix}data/{storage.key}")
    end = tensor.offset + math.prod(tensor.shape)
    if member.nbytes != storage.count * size or end > storage.count:
        raise SourceError(
            f"{path}: tensor {name} needs {end:,} elements of {size} bytes, "
            f"its storage has {member.nbytes:,} bytes",
            hint=AGAIN,
        )
    return TensorRef(name, storage.dtype, tensor.shape, path, member.offset + tensor.offset * size)


def _is_contiguous(tensor: StoredTensor) -> bool:
    """Whether the elements follow each other, row by row; where there is one, strides are idle."""
    expected = 1
    for count, stride in zip(reversed(tensor.shape), reversed(tensor.stride), strict=True):
        if count != 1 and stride != expected:
            return False
        expected *= count
    return True
