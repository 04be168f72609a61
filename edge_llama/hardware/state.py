"""What a plan needs to know of the machine: plain values, so that planning is a pure function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DeviceKind = Literal["gpu", "igpu"]


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device that layers can be moved to; memory in bytes.

    Attributes:
        name: llama.cpp's name for it, e.g. "Vulkan0".
        backend: "cuda", "metal", "vulkan", ...
        description: the maker's name.
        kind: "igpu" shares the host's memory.
        free: memory that is free now; 0 if the device does not say.
        total: all of it.
    """

    name: str
    backend: str
    description: str
    kind: DeviceKind
    free: int
    total: int


@dataclass(frozen=True, kw_only=True)
class HardwareState:
    """The machine as it is now; sizes in bytes.

    Attributes:
        total: the memory this process may ever use: the machine's, or its container's.
        available: what it may use in addition without swapping; None where that is unknown.
        process: what it uses already (resident).
        cores: CPU cores to compute with.
        devices: GPUs that llama.cpp can use.
        backends: the backends compiled into llama.cpp, e.g. ("cpu", "vulkan").
        repacked_types: types whose weights llama.cpp re-lays for this CPU.
        repacks_embedding: whether that is done to an embedding, too, that is also the output.
        numa_nodes: memory nodes; more than one on large servers.
        lock_limit: bytes that may be locked into memory; None for no limit.
    """

    total: int | None = None
    available: int | None = None
    process: int = 0
    cores: int = 1
    devices: tuple[Device, ...] = ()
    backends: tuple[str, ...] = ("cpu",)
    repacked_types: frozenset[str] = frozenset()
    repacks_embedding: bool = False
    numa_nodes: int = 1
    lock_limit: int | None = None
