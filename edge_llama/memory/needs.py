"""The whole need of a model in a context, on the host and on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .formula import (
    bookkeeping_bytes,
    compute_bytes,
    input_bytes,
    kv_cache_bytes,
    output_bytes,
    work_bytes,
)
from .use import MemoryUse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .facts import ModelFacts, Weights
    from .formula import Shape

#: What a GPU's driver takes beside llama.cpp's buffers, on the GPU and in this process. An
#: allowance: drivers differ, and do not say.
_DRIVER, _DRIVER_HOST = 64 * 2**20, 128 * 2**20

#: Bytes per element of the embeddings that the host looks up for a GPU.
_EMBEDDINGS = 8


def estimate(
    facts: ModelFacts,
    shape: Shape,
    *,
    gpu_layers: int = 0,
    repacked_types: frozenset[str] = frozenset(),
) -> tuple[MemoryUse, MemoryUse]:
    """Return what the host and the GPU need.

    llama.cpp moves the output and then the last layers: of ``gpu_layers`` the first is the output.
    The embedding stays on the host.
    """
    overhead = bookkeeping_bytes(facts, shape) + work_bytes(facts, shape)
    if not gpu_layers:
        parts = (*facts.layers, facts.output)
        return MemoryUse(
            weights=facts.nbytes,
            repacked=sum(part.repacked(repacked_types) for part in parts),
            kv_cache=kv_cache_bytes(facts, shape),
            compute=compute_bytes(facts, shape),
            output=output_bytes(facts, shape),
            overhead=overhead,
        ), MemoryUse()
    first = max(facts.n_layer + 1 - gpu_layers, 0)  # the first layer that moves
    stay, move = facts.layers[:first], facts.layers[first:]
    host = MemoryUse(
        weights=_mapped_bytes((facts.input, *stay)),
        kv_cache=kv_cache_bytes(facts, shape, layers=slice(first)),
        compute=input_bytes(shape) + _EMBEDDINGS * shape.n_tokens * facts.n_embd,
        output=output_bytes(facts, shape),
        overhead=overhead + _DRIVER_HOST,
    )
    # Prompts are computed on the GPU throughout: weights that stay are copied there as they come.
    visiting = max((part.nbytes for part in stay), default=0)
    return host, MemoryUse(
        weights=sum(part.nbytes for part in (*move, facts.output)),
        kv_cache=kv_cache_bytes(facts, shape, layers=slice(first, None)),
        compute=compute_bytes(facts, shape) + visiting,
        overhead=_DRIVER,
    )


def _mapped_bytes(parts: Sequence[Weights]) -> int:
    """Return the part of the file that stays mapped: all between the first weight and the last."""
    if not any(part.end for part in parts):
        return sum(part.nbytes for part in parts)
    return max(part.end for part in parts) - min(part.start for part in parts if part.end)
