"""Quantise tensors row chunk by row chunk, in threads, straight to their place in the file.

Memory is bounded by the threads' scratch buffers, whatever the size of the model: each thread
reads a few rows, turns them into float32, quantises them and writes the result.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import queue
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import TensorError
from .ggml import GGMLType, load_ggml
from .kernels import Outcome, load_kernels
from .refs import DTYPE_SIZES
from .rows import RowReader, all_finite, chunks, open_sources
from .threads import join, start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from .fileio import SharedFile
    from .tensors import GGUFTensor


@dataclass(frozen=True, slots=True)
class Target:
    """A tensor of the result: its type and where its data begins in the file (bytes).

    ``part`` is the number of the file, of a model in several.
    """

    tensor: GGUFTensor
    kind: GGMLType
    offset: int
    part: int = 0

    @property
    def nbytes(self) -> int:
        """Size of the tensor's data in the file, in bytes."""
        return self.tensor.rows * self.kind.row_bytes(self.tensor.n_per_row)


#: Jobs that the disk is asked for in advance, of about a megabyte each.
_AHEAD = 16


@dataclass(frozen=True, slots=True)
class _Job:
    target: Target
    first_row: int
    rows: int


class _Jobs:
    """Hands out the jobs in order, each with one that comes some time later."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._lock = threading.Lock()
        self._rest = (
            _Job(target, first, rows) for target in targets for first, rows in chunks(target.tensor)
        )
        self._next = deque(itertools.islice(self._rest, _AHEAD))

    def take(self) -> tuple[_Job | None, _Job | None]:
        """Return the next job and the one that far behind it; None where there is none."""
        with self._lock:
            later = next(self._rest, None)
            if later is not None:
                self._next.append(later)
            return (self._next.popleft() if self._next else None), later


class _Worker:
    def __init__(self, files: Mapping[Path, SharedFile], output: SharedFile) -> None:
        self._ggml, self._kernels = load_ggml(), load_kernels()
        self._reader, self._output = RowReader(files), output

    def run(self, job: _Job, later: _Job | None) -> None:
        """Carry out ``job``; the disk may begin to read for ``later``."""
        if later is not None:
            self._reader.prefetch(later.target.tensor, later.first_row, later.rows)
        tensor, kind = job.target.tensor, job.target.kind
        raw, dtype = self._reader.read(tensor, job.first_row, job.rows)
        nbytes = job.rows * kind.row_bytes(tensor.n_per_row)
        packed = self._reader.scratch.get("packed", nbytes)
        importance = _importance(job)
        outcome = self._quantise(job, raw, dtype, packed, importance)
        if outcome is Outcome.NOT_FINITE:
            first = job.first_row % tensor.rows_per_source
            raise TensorError(
                f"tensor {tensor.source_name(job.first_row)}: "
                f"NaN or Inf within rows {first} to {first + job.rows - 1}",
                hint="The checkpoint is damaged or diverged in training; get another copy.",
            )
        if outcome is Outcome.OVERFLOW:
            raise TensorError(
                f"tensor {tensor.name}: values too large for type {kind.name}"
                + (" with this importance matrix" if importance else ""),
                hint="Choose a type with a larger range: --type bf16 or --type f32"
                + (", or make the matrix again." if importance else "."),
            )
        offset = job.target.offset + job.first_row * kind.row_bytes(tensor.n_per_row)
        self._output.write_at(packed.data, offset)

    def _quantise(
        self,
        job: _Job,
        raw: npt.NDArray[np.uint8],
        dtype: str,
        packed: npt.NDArray[np.uint8],
        importance: int | None,
    ) -> Outcome:
        """Quantise with the fast kernels where there are any, else with ggml.

        The kernels know no importance, whose address is ``importance``.
        """
        kind, n_per_row = job.target.kind, job.target.tensor.n_per_row
        source, target = raw.ctypes.data, packed.ctypes.data
        if dtype == kind.name and kind.is_quantised:  # quantising again would only lose
            packed[:] = raw
            return (
                Outcome.DONE
                if self._ggml.is_valid(kind, target, raw.nbytes)
                else Outcome.NOT_FINITE
            )
        if self._kernels is not None and importance is None:
            if dtype not in DTYPE_SIZES:
                source, dtype = self._reader.to_float32(raw, dtype).ctypes.data, "F32"
            shape = (job.rows, n_per_row)
            outcome = self._kernels.quantise(kind, dtype, source, target, shape)
            if outcome is not Outcome.UNSUPPORTED:
                return outcome
        values = self._reader.to_float32(raw, dtype)
        if not all_finite(values):
            return Outcome.NOT_FINITE
        source = values.ctypes.data
        self._ggml.quantise(kind, source, target, job.rows, n_per_row, importance=importance)
        is_valid = self._ggml.is_valid(kind, target, packed.nbytes)
        return Outcome.DONE if is_valid else Outcome.OVERFLOW


def _importance(job: _Job) -> int | None:
    """Return the address of what the columns weigh in these rows, if it makes a difference."""
    weights = job.target.tensor.importance
    if weights is None or not job.target.kind.uses_importance:
        return None
    return int(weights[job.first_row // job.target.tensor.rows_per_matrix].ctypes.data)


def quantise_to_file(
    targets: Sequence[Target],
    output: SharedFile,
    *,
    threads: int,
    progress: Callable[[str, int], None],
) -> None:
    """Fill the reserved file ``output`` with every target's data.

    ``progress(name, nbytes)`` is called in this thread after each chunk, with the tensor's name
    and the bytes that were written.

    Raises:
        TensorError: NaN or Inf in the source, or a value beyond the target type's range.
        SourceError: a shard shrank while it was read. OSError: as the system reports it.
    """
    stop, jobs = threading.Event(), _Jobs(targets)
    done: queue.SimpleQueue[_Job | BaseException | None] = queue.SimpleQueue()

    def work(worker: _Worker) -> None:
        try:
            while not stop.is_set():
                job, later = jobs.take()
                if job is None:
                    break
                worker.run(job, later)
                done.put(job)
        except BaseException as error:  # noqa: BLE001 - carried to the calling thread
            done.put(error)
        finally:
            done.put(None)

    with contextlib.ExitStack() as stack:
        files = stack.enter_context(open_sources(target.tensor for target in targets))
        pool = [
            threading.Thread(target=work, args=(_Worker(files, output),), daemon=True)
            for _ in range(threads)
        ]
        stack.callback(_join, pool, stop)
        for thread in pool:
            start(thread)
        running = len(pool)
        while running:
            event = done.get()
            if event is None:
                running -= 1
            elif isinstance(event, BaseException):
                raise event
            else:
                tensor, kind = event.target.tensor, event.target.kind
                progress(tensor.name, event.rows * kind.row_bytes(tensor.n_per_row))


def _join(pool: Sequence[threading.Thread], stop: threading.Event) -> None:
    stop.set()
    for thread in pool:
        join(thread)


def quantise_rows(kind: GGMLType, values: npt.NDArray[np.float32]) -> bytes:
    """Quantise a small float32 array ``[rows, n_per_row]`` in memory."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    rows, n_per_row = values.shape
    packed = ctypes.create_string_buffer(rows * kind.row_bytes(n_per_row))
    load_ggml().quantise(kind, values.ctypes.data, ctypes.addressof(packed), rows, n_per_row)
    return packed.raw
