"""Memory arithmetic from the header alone: what a context costs, before anything is allocated."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from .errors import OutOfMemoryError

if TYPE_CHECKING:
    from .config import KVType
    from .gguf_file import GGUFInfo

#: Bytes per element of the KV cache; quantised types store blocks of 32 with a 2-byte scale.
_KV_BYTES = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}


def kv_cache_bytes(info: GGUFInfo, n_ctx: int, kv_type: KVType) -> int:
    """Return the size of the KV cache for ``n_ctx`` tokens, in bytes.

    layers * n_ctx * (key width + value width) * bytes per element, as llama.cpp's kv-cache does.
    """
    return int(n_ctx * sum(info.hparams.kv_widths) * _KV_BYTES[kv_type])


def physical_memory() -> int | None:
    """Return the machine's memory in bytes, or None where it cannot be asked for."""
    if sys.platform == "win32":
        return None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def check_context_fits(info: GGUFInfo, n_ctx: int, kv_type: KVType) -> None:
    """Refuse a context that this machine could never hold.

    llama.cpp would first spend minutes and gigabytes on its bookkeeping for the cells.

    Raises:
        OutOfMemoryError: weights and cache together exceed the machine's memory.
    """
    total = physical_memory()
    cache = kv_cache_bytes(info, n_ctx, kv_type)
    if total is not None and cache + info.nbytes > total:
        raise OutOfMemoryError(
            f"a context of {n_ctx:,} tokens needs {cache / 2**30:,.1f} GiB beside the weights' "
            f"{info.nbytes / 2**30:,.1f} GiB; this machine has {total / 2**30:,.1f} GiB",
            hint="Use a smaller n_ctx (--ctx), or kv_type q8_0 (--kv-type).",
        )
