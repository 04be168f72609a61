"""Rows of a tensor, read from wherever they lie, in the order the GGUF wants them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from .fileio import SharedFile
from .ggml import load_ggml
from .pieces import read_rows
from .refs import BLOCK_SIZES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from .tensors import GGUFTensor

    Bytes = npt.NDArray[np.uint8]

#: Elements worked on at a time: 2 MiB as float32, which stays in the caches.
CHUNK_ELEMENTS = 512 * 1024


class Scratch:
    """Reusable buffers of one thread; they grow to the largest chunk and stay."""

    def __init__(self) -> None:
        self._buffers: dict[str, Bytes] = {}

    def get(self, name: str, nbytes: int) -> Bytes:
        """Return the first ``nbytes`` of the buffer ``name``; its old content is lost."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.nbytes < nbytes:
            buffer = self._buffers[name] = np.empty(nbytes, dtype=np.uint8)
        return buffer[:nbytes]


@contextlib.contextmanager
def open_sources(tensors: Iterable[GGUFTensor]) -> Iterator[dict[Path, SharedFile]]:
    """Open every file that holds a part of the tensors, for positioned reads by any thread."""
    paths = sorted(
        {piece.path for tensor in tensors for source in tensor.sources for piece in source.pieces}
    )
    with contextlib.ExitStack() as stack:
        yield {path: stack.enter_context(SharedFile(path)) for path in paths}


def chunks(tensor: GGUFTensor) -> Iterator[tuple[int, int]]:
    """Yield (first row, rows) of pieces that can be read on their own.

    A piece lies within one matrix, so it never spans two sources or two experts.
    """
    together = tensor.rows_together
    step = max(1, CHUNK_ELEMENTS // tensor.n_per_row // together) * together
    for begin in range(0, tensor.rows, tensor.rows_per_matrix):
        end = begin + tensor.rows_per_matrix
        for first in range(begin, end, step):
            yield first, min(step, end - first)


def permute_rows(rows: Bytes, head_rows: int) -> Bytes:
    """Reorder rows within each head from Hugging Face's rope layout to Meta's, which ggml uses.

    ``rows`` is ``[n, bytes per row]`` of whole heads. transformers rotates element i with
    i + d/2, ggml neighbours 2i and 2i + 1; so the two halves of each head are interleaved.
    """
    halves = rows.reshape(-1, 2, head_rows // 2, rows.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def to_float32(raw: Bytes, dtype: str, scratch: Scratch) -> npt.NDArray[np.float32]:
    """Return bytes of any dtype that ggml decodes as float32; the next call overwrites them."""
    if dtype == "F32":
        return raw.view(np.float32)
    elements, size = BLOCK_SIZES[dtype]
    count = raw.nbytes // size * elements
    values = scratch.get("float32", count * 4)
    load_ggml().to_float32(dtype, raw.ctypes.data, values.ctypes.data, count)
    return values.view(np.float32)


def all_finite(values: npt.NDArray[np.float32] | npt.NDArray[np.float64]) -> bool:
    """Whether there is no NaN or Inf.

    Not ggml_validate_row_data, which looks at the scales only, and prints.
    """
    # The sum is finite only if all are; finite values may overflow it, hence the recheck.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum()) or np.isfinite(values).all())


class RowReader:
    """Reads chunks of tensors; one per thread, because it reuses its buffers."""

    def __init__(self, files: Mapping[Path, SharedFile]) -> None:
        self._files = files
        self.scratch = Scratch()

    def read(self, tensor: GGUFTensor, first_row: int, rows: int) -> tuple[Bytes, str]:
        """Return a chunk's bytes, contiguous, and their dtype; the next call overwrites them.

        Raises:
            SourceError: the file ended early.
        """
        if tensor.values is not None:
            return tensor.values.view(np.uint8), "F32"
        index, row = divmod(first_row, tensor.rows_per_source)
        ref = tensor.sources[index]
        row_bytes = ref.nbytes // tensor.rows_per_source
        raw = self.scratch.get("raw", rows * row_bytes)
        read_rows(self._files, ref, row, raw.reshape(rows, row_bytes))
        if tensor.permuted_heads:
            raw = permute_rows(raw.reshape(rows, row_bytes), tensor.rows_together).reshape(-1)
        return raw, ref.dtype

    def prefetch(self, tensor: GGUFTensor, first_row: int, rows: int) -> None:
        """Begin to read a chunk of a file that is not in memory; returns at once."""
        if tensor.values is not None:
            return
        index, row = divmod(first_row, tensor.rows_per_source)
        ref = tensor.sources[index]
        if not ref.parts:
            row_bytes = ref.nbytes // tensor.rows_per_source
            self._files[ref.path].prefetch(ref.offset + row * row_bytes, rows * row_bytes)

    def to_float32(self, raw: Bytes, dtype: str) -> npt.NDArray[np.float32]:
        """Return the bytes of a chunk, of any dtype, as float32; the next call overwrites them."""
        return to_float32(raw, dtype, self.scratch)
