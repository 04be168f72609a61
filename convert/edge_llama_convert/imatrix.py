"""An importance matrix in use: what it says of each tensor, and the keys that name it.

As llama_model_quantize_impl in llama.cpp's src/llama-quant.cpp uses it, and as
tools/quantize/quantize.cpp notes it in the metadata.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .fileio import SharedFile
from .header import pack_number, pack_string
from .imatrixfile import fail
from .naming import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from .imatrixfile import ImatrixFile
    from .quantize import Target
    from .tensors import GGUFTensor

#: llama-quantize keeps no more of a text, in bytes (val_str of struct llama_model_kv_override).
_MAX_TEXT = 127

#: llama-quantize overlooks it when this one's entry does not fit, and so must we.
_MAY_DIFFER = "token_embd.weight"


def with_importance(tensors: Sequence[GGUFTensor], imatrix: ImatrixFile | None) -> list[GGUFTensor]:
    """Return the tensors with what the matrix says of them; one that it does not name stays.

    Raises:
        SourceError: the matrix names a tensor that is not there or has another shape, or a value
            is negative, NaN or Inf.
    """
    if imatrix is None:
        return list(tensors)
    known = {tensor.name for tensor in tensors}
    unknown = [name for name in imatrix.entries if name not in known]
    if unknown:
        fail(imatrix.path, f"the model has no tensor {listed(unknown)}")
    with SharedFile(imatrix.path) as file:
        weighed = dict(_read(tensors, imatrix, file))
    if not weighed:
        fail(imatrix.path, "none of its entries fits the model")
    return [replace(each, importance=weighed.get(each.name)) for each in tensors]


def _read(
    tensors: Sequence[GGUFTensor], imatrix: ImatrixFile, file: SharedFile
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    for tensor in tensors:
        if tensor.name not in imatrix.entries:
            continue
        found = imatrix.entries[tensor.name].sums.count
        matrices, columns = math.prod(tensor.shape[:-2]), tensor.shape[-1]
        if found == matrices * columns:
            yield tensor.name, imatrix.read(file, tensor.name).reshape(matrices, columns)
        elif tensor.name != _MAY_DIFFER:
            experts = f" for each of {matrices} experts" if matrices > 1 else ""
            fail(
                imatrix.path,
                f"{tensor.name}: {found} values, the tensor has {columns} columns{experts}",
            )


@dataclass(frozen=True)
class Coverage:
    """How much of a plan an importance matrix speaks of.

    Attributes:
        tensors: number of tensors it has values for.
        missing: names of the tensors that are quantised without, although it would matter.
    """

    tensors: int
    missing: tuple[str, ...]


def coverage(targets: Sequence[Target]) -> Coverage | None:
    """Return how many of the tensors carry importance; None without an importance matrix."""
    count = sum(target.tensor.importance is not None for target in targets)
    if not count:
        return None
    missing = [
        target.tensor.name
        for target in targets
        if target.tensor.importance is None and target.kind.uses_importance
    ]
    return Coverage(count, tuple(missing))


def imatrix_keys(imatrix: ImatrixFile | None) -> dict[str, bytes]:
    """Return the metadata that llama-quantize adds after all other keys, packed, by name."""
    if imatrix is None:
        return {}
    values: dict[str, bytes | int] = {"quantize.imatrix.file": imatrix.given[:_MAX_TEXT]}
    if imatrix.dataset is not None:
        text = imatrix.dataset.partition(b"\0")[0]
        values["quantize.imatrix.dataset"] = text[:_MAX_TEXT]
    values["quantize.imatrix.entries_count"] = len(imatrix.entries)
    if imatrix.chunks:
        values["quantize.imatrix.chunks_count"] = imatrix.chunks
    return {
        key: pack_number(key, value) if isinstance(value, int) else pack_string(key, value)
        for key, value in values.items()
    }
