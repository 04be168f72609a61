"""The fast quantisation kernels, through ctypes; absent where nothing could compile them.

They write what ``ggml_quantize_chunk`` writes without an importance matrix, byte for byte
(convert/kernels, tests/test_kernels.py), several times faster, and take 16-bit rows as they are.
On ARM, ggml may be compiled with fused multiply-add and then differs in rare last bits from what
it writes on x86; the kernels write x86's bytes everywhere.
"""

from __future__ import annotations

import ctypes
import functools
import os
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from .ggml import GGMLType

if TYPE_CHECKING:
    from collections.abc import Mapping

_ABI = 1
_SOURCES: Mapping[str, GGMLType] = {
    "F32": GGMLType.F32,
    "F16": GGMLType.F16,
    "BF16": GGMLType.BF16,
}


class Outcome(IntEnum):
    """What quantising some rows came to (edge_quantize_rows in convert/kernels/kernels.cpp)."""

    DONE = 0
    UNSUPPORTED = 1
    NOT_FINITE = 2
    OVERFLOW = 3


class Kernels:
    """The loaded library; every call releases the GIL and may run in any thread."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._quantise = library.edge_quantize_rows
        self._quantise.restype = ctypes.c_int
        self._quantise.argtypes = [
            *(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
            *(ctypes.c_int64, ctypes.c_int64),
        ]
        library.edge_kernels_isa.restype = ctypes.c_char_p
        #: The instruction set in use: "avx512", "avx2", "sse2", "neon" or "generic".
        self.isa: str = library.edge_kernels_isa().decode()

    def quantise(
        self, kind: GGMLType, dtype: str, source: int, target: int, shape: tuple[int, int]
    ) -> Outcome:
        """Quantise ``[rows, n_per_row]`` of ``dtype`` at address ``source`` to address ``target``.

        After any outcome but DONE the target's content is unspecified.
        """
        code = self._quantise(int(kind), int(_SOURCES[dtype]), source, target, *shape)
        return Outcome(code)


@functools.cache
def load_kernels() -> Kernels | None:
    """Load the kernels once per process; None without them, or with EDGE_LLAMA_KERNELS=0."""
    path = Path(__file__).with_name("_kernels.so")
    if os.environ.get("EDGE_LLAMA_KERNELS") == "0" or not path.is_file():
        return None
    try:
        library = ctypes.CDLL(str(path))
        return Kernels(library) if library.edge_kernels_abi() == _ABI else None
    except (OSError, AttributeError):  # built for another machine, or of another release
        return None
