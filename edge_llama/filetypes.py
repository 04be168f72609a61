"""What a model's type is called, and whether its file has all of its content."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .gguf_file import GGUFInfo

#: ``general.file_type`` -> name (``enum llama_ftype`` in llama.h).
_NAMES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}


#: Shorter holes occur in whole files, too: a copy may leave out blocks of zeros.
_LEAST_HOLE = 2**20


def file_type(info: GGUFInfo) -> str:
    """Return the mixture the file says it has, else the type that most of its bytes are of."""
    number = info.metadata.get("general.file_type")
    name = _NAMES.get(number) if isinstance(number, int) else None
    return name or next(iter(info.bytes_by_type), "none")


def missing_bytes(info: GGUFInfo) -> int:
    """Return how many bytes of the files were never written (holes), as far as the system says.

    A download that reserved its space first has its full size, and a good header, from the start.
    """
    return sum(_hole_bytes(path) for path in info.parts)


def _hole_bytes(path: Path) -> int:
    if not hasattr(os, "SEEK_HOLE"):
        return 0
    with path.open("rb", buffering=0) as file:
        size, total, at = os.fstat(file.fileno()).st_size, 0, 0
        while at < size:
            hole = _seek(file.fileno(), at, os.SEEK_HOLE, size)
            at = _seek(file.fileno(), hole, os.SEEK_DATA, size) if hole < size else size
            total += at - hole if at - hole >= _LEAST_HOLE else 0
    return total


def _seek(fd: int, at: int, whence: int, end: int) -> int:
    try:
        return os.lseek(fd, at, whence)
    except OSError:  # nothing of the kind up to the end, or a file system that cannot tell
        return end
