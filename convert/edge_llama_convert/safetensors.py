"""Read the header of a safetensors file and say where each tensor's bytes are.

Format: https://github.com/huggingface/safetensors#format. The header is parsed here rather than
by the ``safetensors`` package, because its numpy side has no bfloat16 and hands out whole
tensors; the converter streams rows from the file positions.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import SourceError, UnsupportedError
from .folder import open_regular
from .naming import listed
from .refs import BLOCK_SIZES, DTYPE_SIZES, TensorRef

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: The reference implementation's own limit for the header.
MAX_HEADER_BYTES = 100_000_000

_AGAIN = "The download is probably incomplete; fetch the file again."


def read_header(
    path: Path, open_file: Callable[[Path], BinaryIO] = open_regular
) -> dict[str, TensorRef]:
    """Return the tensors of one safetensors file by name, without reading their data.

    Raises:
        SourceError: the file is missing, truncated, or its header is damaged.
        UnsupportedError: a tensor has an unknown dtype.
    """
    try:
        with open_file(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            prefix = file.read(8)
            if len(prefix) < 8:
                raise SourceError(
                    f"{path}: only {size} bytes long, not a safetensors file", hint=_AGAIN
                )
            length = int.from_bytes(prefix, "little")
            if length > min(MAX_HEADER_BYTES, size - 8):
                raise SourceError(
                    f"{path}: the header claims {length:,} bytes, the file has {size:,}",
                    hint=f"Either it is no safetensors file or it is truncated. {_AGAIN}",
                )
            raw = file.read(length)
    except OSError as error:
        raise SourceError(
            f"{path}: {error.strerror or error}", hint="Check the path and its permissions."
        ) from error
    return _parse(path, raw, 8 + length, size)


def _parse(path: Path, raw: bytes, start: int, size: int) -> dict[str, TensorRef]:
    try:
        header = json.loads(raw, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{path}: the safetensors header is not valid JSON ({error})", hint=_AGAIN
        ) from error
    if not isinstance(header, dict):
        raise SourceError(f"{path}: the safetensors header is not an object", hint=_AGAIN)
    header.pop("__metadata__", None)
    tensors = {name: _tensor(path, name, entry, start, size) for name, entry in header.items()}
    end = start
    for ref in sorted(tensors.values(), key=lambda ref: ref.offset):
        if ref.offset < end:
            raise SourceError(f"{path}: tensor {ref.name} overlaps the one before it", hint=_AGAIN)
        end = ref.offset + ref.nbytes
    return tensors


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        count = Counter(key for key, _ in pairs)
        raise ValueError(f"twice: {listed(key for key in count if count[key] > 1)}")
    return result


def _tensor(path: Path, name: str, entry: Any, start: int, size: int) -> TensorRef:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
        well_formed = isinstance(dtype, str) and all(
            isinstance(number, int) and 0 <= number < 2**63 for number in numbers
        )
    except (KeyError, TypeError, ValueError):
        well_formed = False
    if not well_formed:
        raise SourceError(f"{path}: the header entry of tensor {name} is malformed", hint=_AGAIN)
    if dtype not in BLOCK_SIZES:
        raise UnsupportedError(
            f"{path}: tensor {name} has dtype {dtype[:40]!r}, which is unknown; supported are "
            f"{', '.join(DTYPE_SIZES)}",
            hint="Convert from the original 16- or 32-bit checkpoint, not a quantised one.",
        )
    ref = TensorRef(name, dtype, tuple(shape), path, start + begin)
    if end - begin != ref.nbytes:
        raise SourceError(
            f"{path}: tensor {name} has {end - begin:,} bytes of data, "
            f"its shape {list(shape)} needs {ref.nbytes:,}",
            hint=_AGAIN,
        )
    if start + end > size:
        raise SourceError(
            f"{path}: truncated: tensor {name} ends at byte {start + end:,}, the file has {size:,}",
            hint=_AGAIN,
        )
    return ref
