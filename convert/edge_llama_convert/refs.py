"""Where a tensor lies on disk, whatever the format of the file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gguf import GGML_QUANT_SIZES

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes per element of the dtypes of checkpoints that can be converted.
DTYPE_SIZES = {"F32": 4, "F16": 2, "BF16": 2}

#: Elements and bytes per block, by name: of all of ggml's types, which a GGUF may hold, and of
#: the dtypes of safetensors and torch, which are read so that an error can name them.
BLOCK_SIZES = {
    **{kind.name: sizes for kind, sizes in GGML_QUANT_SIZES.items()},
    **dict.fromkeys(("BOOL", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), (1, 1)),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), (1, 1)),
    "U16": (1, 2),
    "U32": (1, 4),
    "U64": (1, 8),
    "C64": (1, 8),
    "F4": (2, 1),
    "F6_E2M3": (4, 3),
    "F6_E3M2": (4, 3),
}


@dataclass(frozen=True, slots=True)
class TensorRef:
    """Where one tensor lies in a file.

    Attributes:
        name: the tensor's name in the source.
        dtype: a key of :data:`BLOCK_SIZES`.
        shape: row-major.
        path: the file.
        offset: where the data begins in the file, in bytes.
        parts: when set, the tensor is these pieces, put together along ``axis`` (0: rows,
            1: columns); ``path`` and ``offset`` are the first piece's.
        axis: see ``parts``.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    parts: tuple[TensorRef, ...] = ()
    axis: int = 0

    @property
    def nbytes(self) -> int:
        """Size of the tensor's data in bytes."""
        elements, size = BLOCK_SIZES[self.dtype]
        return math.prod(self.shape) // elements * size

    @property
    def pieces(self) -> tuple[TensorRef, ...]:
        """What lies in one place each: the parts, or the tensor itself."""
        return self.parts or (self,)
