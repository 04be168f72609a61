"""The machine as llama.cpp would use it now."""

from __future__ import annotations

from ..hardware import (
    HardwareState,
    default_threads,
    lock_limit,
    memory_now,
    numa_nodes,
    resident_memory,
)
from .devices import backends, cpu_features, devices
from .repack import chooses_names, repacked_types


def read_hardware() -> HardwareState:
    """Return the machine's state now; NativeLibraryError when llama.cpp is not usable.

    llama.cpp is loaded first, so that what it takes is part of what the process has.
    """
    features = cpu_features()
    gpus = tuple(devices())
    total, available = memory_now()
    return HardwareState(
        total=total,
        available=available,
        process=resident_memory(),
        cores=default_threads(),
        devices=gpus,
        backends=backends(),
        repacked_types=repacked_types(features),
        repacks_embedding=not chooses_names(features),
        numa_nodes=numa_nodes(),
        lock_limit=lock_limit(),
    )
