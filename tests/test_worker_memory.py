"""A worker that the kernel ends because memory ran out: a real one, in a control group."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from insides import pid_of

from edge_llama import Model, Sampling, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")

GROUPS = Path("/sys/fs/cgroup")


@contextmanager
def group(limit: int) -> Iterator[Path]:
    """Make a control group (version 1 or 2) whose new pages are limited to ``limit`` bytes."""
    first = (GROUPS / "memory").is_dir()
    folder = (GROUPS / "memory" if first else GROUPS) / f"edge-llama-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(limit))
    except OSError as error:
        if folder.is_dir():
            folder.rmdir()
        pytest.skip(f"this user may make no control group that limits memory ({error})")
    try:
        yield folder
    finally:
        folder.rmdir()  # its processes are gone


def test_out_of_memory_ends_the_worker_alone(embedded: Path) -> None:
    greedy = Sampling(temperature=0, max_tokens=4)
    with group(8 * 2**20) as limited, Model.open(embedded, n_ctx=4096, isolate=True) as model:
        worker = pid_of(model)
        (limited / "cgroup.procs").write_text(str(worker))
        with pytest.raises(WorkerDied, match="memory runs out") as caught:
            model.generate("word " * 3000, raw=True, sampling=greedy)
        assert caught.value.exit_code == -9
        assert model.generate("Hi", sampling=greedy).text
        assert pid_of(model) != worker
