"""Options -> ``llama_context_params``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..memory.formula import count_cells

if TYPE_CHECKING:
    from ..config import ModelConfig
    from ..rope import Rope

#: ggml's type numbers for the KV cache.
_KV_TYPES = {"auto": 1, "f16": 1, "q4_0": 2, "q8_0": 8}


def context_params(lib: Any, config: ModelConfig, rope: Rope, n_ctx: int) -> Any:
    """Return what a context of ``n_ctx`` tokens is made with; sizes of batches are the caller's."""
    params = lib.llama_context_default_params()
    params.n_ctx = count_cells(n_ctx)
    params.kv_unified = True
    params.n_threads = params.n_threads_batch = config.n_threads
    params.flash_attn_type = _flash_attention(lib, config)
    params.type_k = params.type_v = _KV_TYPES[config.kv_type]
    params.no_perf = True
    _set_rope(lib, params, rope)
    return params


def _flash_attention(lib: Any, config: ModelConfig) -> int:
    """Return the C value; a quantised V cache needs it, otherwise llama.cpp knows best."""
    if config.flash_attention == "off":
        return int(lib.LLAMA_FLASH_ATTN_TYPE_DISABLED)
    if config.flash_attention == "on" or config.kv_type in {"q8_0", "q4_0"}:
        return int(lib.LLAMA_FLASH_ATTN_TYPE_ENABLED)
    return int(lib.LLAMA_FLASH_ATTN_TYPE_AUTO)


def _set_rope(lib: Any, params: Any, rope: Rope) -> None:
    """Set what is not left to the file; llama.cpp's other YaRN parameters follow from it."""
    if rope.scaling is not None:
        name = f"LLAMA_ROPE_SCALING_TYPE_{rope.scaling.upper()}"
        params.rope_scaling_type = getattr(lib, name)
    if rope.factor is not None:
        params.rope_freq_scale = np.float32(1) / np.float32(rope.factor)  # as from a file's key
    for name, value in (
        ("rope_freq_base", rope.freq_base),
        ("yarn_orig_ctx", rope.original_context),
        ("yarn_beta_fast", rope.beta_fast),
        ("yarn_beta_slow", rope.beta_slow),
    ):
        if value is not None:
            setattr(params, name, value)
