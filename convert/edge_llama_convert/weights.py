"""A model's weights by GGUF name, a few rows at a time, for the reference forward pass."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from .rows import RowReader, chunks, open_sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from .fileio import SharedFile
    from .tensors import GGUFTensor

    Array = npt.NDArray[np.float32]


@contextlib.contextmanager
def open_weights(tensors: Sequence[GGUFTensor]) -> Iterator[StoredWeights]:
    """Open the files that hold the tensors; SourceError when one cannot be read."""
    with open_sources(tensors) as files:
        yield StoredWeights(tensors, files)


class StoredWeights:
    """Implements :class:`~edge_llama_convert.reference.Weights` over a model's files."""

    def __init__(self, tensors: Iterable[GGUFTensor], files: Mapping[Path, SharedFile]) -> None:
        self._tensors = {tensor.name: tensor for tensor in tensors}
        self._reader = RowReader(files)

    def has(self, name: str) -> bool:
        """Whether the model has this tensor."""
        return name in self._tensors

    def vector(self, name: str) -> Array:
        """Return a whole one-dimensional tensor."""
        tensor = self._tensors[name]
        raw, dtype = self._reader.read(tensor, 0, tensor.rows)
        values: Array = self._reader.to_float32(raw, dtype).copy()
        return values

    def rows(self, name: str, indices: Sequence[int]) -> Array:
        """Return some rows of a matrix, ``[len(indices), n_per_row]``."""
        tensor = self._tensors[name]
        result = np.empty((len(indices), tensor.n_per_row), dtype=np.float32)
        for i, index in enumerate(indices):
            raw, dtype = self._reader.read(tensor, index, 1)
            result[i] = self._reader.to_float32(raw, dtype)
        return result

    def product(self, name: str, x: Array, expert: int | None = None) -> Array:
        """Return ``x @ W.T``, computed chunk by chunk; W is one expert's part if one is named."""
        tensor = self._tensors[name]
        begin, end = 0, tensor.rows
        if expert is not None:
            begin, end = (tensor.shape[-2] * i for i in (expert, expert + 1))
        result = np.empty((len(x), end - begin), dtype=np.float32)
        for first, count in chunks(tensor):
            at, last = max(first, begin), min(first + count, end)
            if at < last:
                raw, dtype = self._reader.read(tensor, at, last - at)
                part = self._reader.to_float32(raw, dtype).reshape(last - at, tensor.n_per_row)
                np.matmul(x, part.T, out=result[:, at - begin : last - begin])
        return result
