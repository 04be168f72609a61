"""What the machine says, from files like those of Linux's /proc and /sys, and from this machine."""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edge_llama.hardware import (
    default_threads,
    memory_now,
    physical_memory,
    read_process_memory,
    resident_memory,
)
from edge_llama.hardware.cgroup import cpu_limit, memory_limit
from edge_llama.hardware.cores import performance_cores
from edge_llama.hardware.ram import meminfo_available, numa_nodes
from edge_llama.hardware.windows import count_cores

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CPU = "sys/devices/system/cpu/cpu{}"


def write(root: Path, files: Mapping[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n", encoding="ascii")
    return root


def siblings(groups: list[list[int]]) -> dict[str, object]:
    return {
        f"{CPU.format(cpu)}/topology/thread_siblings_list": ",".join(map(str, group))
        for group in groups
        for cpu in group
    }


def frequencies(speeds: Mapping[int, int]) -> dict[str, object]:
    return {f"{CPU.format(cpu)}/cpufreq/cpuinfo_max_freq": speed for cpu, speed in speeds.items()}


def test_one_thread_per_core_with_hyperthreads(tmp_path: Path) -> None:
    write(tmp_path, siblings([[0, 4], [1, 5], [2, 6], [3, 7]]))
    assert performance_cores(range(8), tmp_path) == 4
    assert performance_cores({0, 4, 1}, tmp_path) == 2  # as far as the affinity allows
    assert performance_cores({5}, tmp_path) == 1


def test_slow_cores_are_left_out(tmp_path: Path) -> None:
    """An Intel with 2 P cores (4 threads, one favoured) and 4 E cores."""
    write(
        tmp_path,
        {
            **siblings([[0, 1], [2, 3], [4], [5], [6], [7]]),
            **frequencies({0: 5400000, 1: 5400000, 2: 5200000, 3: 5200000}),
            **frequencies(dict.fromkeys(range(4, 8), 4800000)),
            "sys/devices/cpu_atom/cpus": "4-7",
        },
    )
    assert performance_cores(range(8), tmp_path) == 2
    assert performance_cores(range(4, 8), tmp_path) == 4  # the best there are


def test_a_phone_s_clusters(tmp_path: Path) -> None:
    capacities = [160, 160, 160, 160, 880, 880, 880, 1024]
    write(
        tmp_path,
        {f"{CPU.format(cpu)}/cpu_capacity": value for cpu, value in enumerate(capacities)},
    )
    assert performance_cores(range(8), tmp_path) == 4


def test_without_information_each_cpu_is_a_core(tmp_path: Path) -> None:
    assert performance_cores(range(6), tmp_path) == 6
    assert performance_cores([], tmp_path) == 1


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/app", {"sys/fs/cgroup/app/cpu.max": "250000 100000"}, 2),
        ("0::/app", {"sys/fs/cgroup/app/cpu.max": "max 100000"}, 8),
        ("0::/a/b", {"sys/fs/cgroup/a/cpu.max": "50000 100000"}, 1),  # the group above limits
        ("0::/host/path", {"sys/fs/cgroup/cpu.max": "300000 100000"}, 3),  # inside a container
        (
            "4:cpu,cpuacct:/\n0::/",
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": 150000,
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": 50000,
            },
            3,
        ),
        (
            "4:cpu:/",
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": -1,
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": 100000,
            },
            8,
        ),
    ],
)
def test_a_container_s_cpu_quota(
    tmp_path: Path, groups: str, files: dict[str, object], cores: int
) -> None:
    write(tmp_path, {"proc/self/cgroup": groups, **files})
    assert performance_cores(range(8), tmp_path) == cores


def test_a_container_s_memory(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/app/inner",
            "sys/fs/cgroup/app/memory.max": 1000,
            "sys/fs/cgroup/app/memory.current": 800,
            "sys/fs/cgroup/app/memory.stat": "anon 500\ninactive_file 300",
            "sys/fs/cgroup/app/inner/memory.max": "max",
            "proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 1 kB",
        },
    )
    assert memory_limit(tmp_path) == (1000, 500)
    assert meminfo_available(tmp_path) == 1024
    total, available = memory_now(tmp_path)
    assert (total, available) == (1000, 500)


def test_version_1_groups_without_a_limit(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/x",
            "sys/fs/cgroup/memory/x/memory.limit_in_bytes": 2**63 - 4096,
            "sys/fs/cgroup/memory/x/memory.usage_in_bytes": 5,
        },
    )
    assert memory_limit(tmp_path) == (None, None)
    assert cpu_limit(tmp_path) is None
    assert numa_nodes(tmp_path) == 1


def test_windows_cores_by_efficiency_class() -> None:
    def record(relation: int, efficiency: int) -> bytes:
        return struct.pack("<IIBB", relation, 48, 0, efficiency) + bytes(38)

    assert count_cores(record(0, 1) * 6 + record(0, 0) * 8 + record(3, 0)) == 6
    assert count_cores(record(0, 0) * 4) == 4
    assert count_cores(b"") is None


@pytest.mark.skipif(sys.platform != "linux", reason="compares with Linux's own figures")
def test_this_machine() -> None:
    total, available = memory_now()
    assert total is not None
    assert available is not None
    assert 0 < available <= total
    assert total <= (physical_memory() or 0)
    assert 1 <= default_threads() <= len(os.sched_getaffinity(0))
    if len(os.sched_getaffinity(0)) > 1:
        code = "from edge_llama.hardware import default_threads; print(default_threads())"
        pinned = ["taskset", "-c", str(min(os.sched_getaffinity(0))), sys.executable, "-c", code]
        assert subprocess.run(pinned, capture_output=True, check=True, text=True).stdout == "1\n"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_memory_of_this_process_follows_what_it_touches() -> None:
    before = read_process_memory()
    block = mmap.mmap(-1, 64 * 2**20)  # not from the heap, which may have such a hole
    block.write(os.urandom(len(block)))
    after = read_process_memory()
    assert after.resident - before.resident == pytest.approx(len(block), rel=0.05)
    assert after.private is not None
    assert before.private is not None
    assert after.private - before.private == pytest.approx(len(block), rel=0.05)
    assert after.proportional is not None
    assert after.private <= after.proportional <= after.resident
    assert resident_memory() == pytest.approx(after.resident, rel=0.05)
