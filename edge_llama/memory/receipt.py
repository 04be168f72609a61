"""What a model took, beside what was planned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .use import MemoryUse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..hardware import ProcessMemory
    from .plan import MemoryPlan

BufferKind = Literal["weights", "kv_cache", "compute", "output"]


@dataclass(frozen=True)
class Buffer:
    """A buffer that llama.cpp allocated or mapped: where, what for, and its bytes.

    ``place`` is llama.cpp's name, e.g. "CPU_Mapped", "CPU", "CPU_REPACK", "Vulkan0".
    """

    place: str
    kind: BufferKind
    nbytes: int

    @property
    def on_host(self) -> bool:
        """Whether it is in the host's memory ("Vulkan_Host" and the like are pinned there)."""
        return self.place.startswith("CPU") or self.place.endswith("_Host")


@dataclass(frozen=True, kw_only=True)
class MemoryReceipt:
    """Planned beside measured; sizes in bytes.

    Attributes:
        plan: what was planned, and the options that were chosen.
        host: what llama.cpp allocated on the host; its ``overhead`` is what the process has grown
            by beside that. Compute buffers are touched, and so resident, when a prompt fills them.
        gpu: what llama.cpp allocated on the GPU.
        process: the whole process now.
    """

    plan: MemoryPlan
    host: MemoryUse
    gpu: MemoryUse
    process: ProcessMemory

    @property
    def growth(self) -> int:
        """What the process has in memory beyond what it had before the model."""
        return self.process.resident - self.plan.process


def write_receipt(
    plan: MemoryPlan, buffers: Iterable[Buffer], process: ProcessMemory
) -> MemoryReceipt:
    """Sum up llama.cpp's buffers and hold them beside the plan."""
    found = tuple(buffers)
    host = _sum(buffer for buffer in found if buffer.on_host)
    rest = process.resident - plan.process - host.total
    return MemoryReceipt(
        plan=plan,
        host=host + MemoryUse(overhead=max(0, rest)),
        gpu=_sum(buffer for buffer in found if not buffer.on_host),
        process=process,
    )


def _sum(buffers: Iterable[Buffer]) -> MemoryUse:
    totals = dict.fromkeys(("weights", "repacked", "kv_cache", "compute", "output"), 0)
    for buffer in buffers:
        kind = "repacked" if buffer.place in {"CPU_REPACK", "AMX"} else buffer.kind
        totals[kind] += buffer.nbytes
    return MemoryUse(**totals)
