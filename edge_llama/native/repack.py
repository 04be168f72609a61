"""Weights in the layout that is fast on this CPU: which, and how llama.cpp is asked for it.

llama.cpp by itself ("extra buffers") takes whatever layout comes first: on a CPU with AMX that of
its AMX kernels, which end the process with SIGILL when GCC 12 (Debian 12) compiled them, since it
drops the stores of the tile configuration. So on x86 the matrices are put into the buffers of the
portable layout one by one, by their names; elsewhere llama.cpp knows best.
"""

from __future__ import annotations

import ctypes
import re
from typing import TYPE_CHECKING, Any

from .devices import cpu_features, extra_buffers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..header.parser import TensorInfo

_PORTABLE = "CPU_REPACK"
#: Types that the portable layout has on x86, by a feature the CPU must have, and how many rows it
#: puts side by side (ggml-cpu/repack.cpp, ggml_repack_get_optimal_repack_type).
_X86 = {"AVX2": ("Q4_0", "Q4_K", "IQ4_NL"), "AVX512": ("Q2_K",)}
_ROWS = 8
#: The same on ARM, where Q4_0 and Q8_0 need only four rows.
_ARM = {"DOTPROD": ("Q4_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "Q8_0")}
#: What a layer multiplies with. The embedding is not: a tied output shares its name.
_MATRIX = re.compile(r"(?:blk\.(\d+)\.(attn_[a-z]+|ffn_[a-z_]+)|output)\.weight")


def chooses_names(features: frozenset[str]) -> bool:
    """Whether the matrices are named to llama.cpp, and not left to it."""
    return "AVX2" in features


def repacked_types(features: frozenset[str]) -> frozenset[str]:
    """Return the types whose matrices can be re-laid."""
    if "REPACK" not in features or _PORTABLE not in extra_buffers():
        return frozenset()
    table = _X86 if chooses_names(features) else _ARM
    return frozenset(kind for name in table if name in features for kind in table[name])


def repack(params: Any, tensors: Iterable[TensorInfo]) -> object:
    """Ask llama.cpp, in ``llama_model_params``, to re-lay what can be; keep what is returned.

    It must live as long as the model.
    """
    features = cpu_features()
    types = repacked_types(features)
    if not chooses_names(features):
        params.use_extra_bufts = True
        return None
    pattern = _pattern(
        tensor.name
        for tensor in tensors
        if tensor.type in types and len(tensor.shape) > 1 and tensor.shape[1] % _ROWS == 0
    )
    if not pattern:
        return None
    overrides = (_Override * 2)(_Override(pattern.encode(), extra_buffers()[_PORTABLE]))
    params.tensor_buft_overrides = ctypes.addressof(overrides)
    return overrides


class _Override(ctypes.Structure):
    """``llama_model_tensor_buft_override``; a list of them ends with an empty one."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buft", ctypes.c_void_p))


def _pattern(names: Iterable[str]) -> str:
    """Return a short regular expression for these names: llama.cpp compiles it for every tensor."""
    layers: dict[str, list[str]] = {}
    found = [match for name in names if (match := _MATRIX.fullmatch(name))]
    for match in found:
        if match[1] is not None:
            layers.setdefault(match[2], []).append(match[1])
    by_layers: dict[tuple[str, ...], list[str]] = {}
    for kind, numbers in layers.items():
        by_layers.setdefault(tuple(numbers), []).append(kind)
    parts = [_layers(numbers, kinds) for numbers, kinds in by_layers.items()]
    if any(match[1] is None for match in found):
        parts.append("output")
    return f"^({'|'.join(parts)})\\.weight$" if parts else ""


def _layers(numbers: Sequence[str], kinds: Sequence[str]) -> str:
    return f"blk\\.({'|'.join(numbers)})\\.({'|'.join(kinds)})"
