"""What Windows says about memory and cores (kernel32; the structures are in sysinfoapi.h)."""

from __future__ import annotations

import ctypes
import struct
import sys

#: LOGICAL_PROCESSOR_RELATIONSHIP: one record per core.
_RELATION_PROCESSOR_CORE = 0


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX."""

    _fields_ = [
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("available", ctypes.c_uint64),
        ("others", ctypes.c_uint64 * 5),
    ]


class _ProcessMemory(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS."""

    _fields_ = [
        ("length", ctypes.c_uint32),
        ("faults", ctypes.c_uint32),
        ("peak", ctypes.c_size_t),
        ("resident", ctypes.c_size_t),
        ("others", ctypes.c_size_t * 6),
    ]


def memory() -> tuple[int | None, int | None]:
    """Return (total, available) in bytes."""
    if sys.platform != "win32":
        return None, None
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None, None
    return int(status.total), int(status.available)


def process_memory() -> tuple[int | None, int | None]:
    """Return (resident, peak) of this process in bytes."""
    if sys.platform != "win32":
        return None, None
    counters = _ProcessMemory(length=ctypes.sizeof(_ProcessMemory))
    kernel = ctypes.windll.kernel32
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(kernel.GetCurrentProcess())
    if not kernel.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.length):
        return None, None
    return int(counters.resident), int(counters.peak)


def performance_cores() -> int | None:
    """Return the number of cores of the fastest class; None where it cannot be asked for."""
    if sys.platform != "win32":
        return None
    function = ctypes.windll.kernel32.GetLogicalProcessorInformationEx
    size = ctypes.c_uint32(0)
    function(_RELATION_PROCESSOR_CORE, None, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    if not function(_RELATION_PROCESSOR_CORE, buffer, ctypes.byref(size)):
        return None
    return count_cores(buffer.raw[: size.value])


def count_cores(records: bytes) -> int | None:
    """Count the cores of the highest efficiency class in SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX.

    Each record is relationship (u32), its own size (u32), flags (u8), efficiency class (u8), ...;
    a higher class is faster.
    """
    classes: list[int] = []
    at = 0
    while at + 10 <= len(records):
        relation, size, _, efficiency = struct.unpack_from("<IIBB", records, at)
        if relation == _RELATION_PROCESSOR_CORE:
            classes.append(efficiency)
        if size <= 0:
            break
        at += size
    return classes.count(max(classes)) if classes else None
