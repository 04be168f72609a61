"""Memory by what it is for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """Bytes of one place: the host, or a GPU.

    Attributes:
        weights: on the host mapped from the file, so shared with other processes that map it and
            dropped by the system before it swaps; copied if ``mmap`` is off.
        repacked: private copies of weights in the layout that is fast on this CPU.
        kv_cache: keys and values of the context.
        compute: the buffers graphs are computed in.
        output: logits.
        overhead: vocabulary, graphs, bookkeeping, scratch space, libraries.
    """

    weights: int = 0
    repacked: int = 0
    kv_cache: int = 0
    compute: int = 0
    output: int = 0
    overhead: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, field.name) for field in dataclasses.fields(self))

    @property
    def private(self) -> int:
        """What no other process shares and the system cannot drop, if the weights are mapped."""
        return self.total - self.weights

    def __add__(self, other: MemoryUse) -> MemoryUse:
        return MemoryUse(
            **{
                field.name: getattr(self, field.name) + getattr(other, field.name)
                for field in dataclasses.fields(self)
            }
        )
