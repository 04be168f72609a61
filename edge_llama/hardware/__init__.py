"""The machine: memory, cores, devices. Plain values; nothing here knows of models or llama.cpp."""

from .cores import default_threads
from .process import ProcessMemory, read_process_memory, resident_memory
from .ram import lock_limit, memory_now, numa_nodes, physical_memory
from .state import Device, HardwareState

__all__ = [
    "Device",
    "HardwareState",
    "ProcessMemory",
    "default_threads",
    "lock_limit",
    "memory_now",
    "numa_nodes",
    "physical_memory",
    "read_process_memory",
    "resident_memory",
]
