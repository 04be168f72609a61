"""Quantise tensors row chunk by row chunk, in threads, straight to their place in the file.

Memory is bounded by the threads' scratch buffers, whatever the size of the model: each thread
reads a few rows, turns them into float32, quantises them and writes the result.
"""

from __future__ import annotations

import contextlib
import ctypes
import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import TensorError
from .fileio import SharedFile
from .ggml import GGML, GGMLType, load_ggml
from .rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from .tensors import GGUFTensor

#: Elements a thread works on at a time: 2 MiB as float32, which stays in the caches.
CHUNK_ELEMENTS = 512 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A tensor of the result: its type and where its data begins in the file (bytes)."""

    tensor: GGUFTensor
    kind: GGMLType
    offset: int

    @property
    def nbytes(self) -> int:
        """Size of the tensor's data in the file, in bytes."""
        return self.tensor.rows * self.kind.row_bytes(self.tensor.n_per_row)


@dataclass(frozen=True, slots=True)
class _Job:
    target: Target
    first_row: int
    rows: int


def _jobs(targets: Sequence[Target]) -> Iterator[_Job]:
    for target in targets:
        tensor = target.tensor
        step = max(1, CHUNK_ELEMENTS // tensor.n_per_row)
        if tensor.permuted_heads:  # rows move within a head, so a chunk holds whole heads
            head_rows = tensor.rows // tensor.permuted_heads
            step = max(1, step // head_rows) * head_rows
        for first in range(0, tensor.rows, step):
            yield _Job(target, first, min(step, tensor.rows - first))


class _Scratch:
    """One thread's reusable buffers; they grow to the largest chunk and stay."""

    def __init__(self) -> None:
        self._buffers: dict[str, npt.NDArray[np.uint8]] = {}

    def get(self, name: str, nbytes: int) -> npt.NDArray[np.uint8]:
        buffer = self._buffers.get(name)
        if buffer is None or buffer.nbytes < nbytes:
            buffer = self._buffers[name] = np.empty(nbytes, dtype=np.uint8)
        return buffer[:nbytes]


def permute_rows(rows: npt.NDArray[np.uint8], head_rows: int) -> npt.NDArray[np.uint8]:
    """Reorder rows within each head from Hugging Face's rope layout to Meta's, which ggml uses.

    ``rows`` is ``[n, bytes per row]`` of whole heads. transformers rotates element i with
    i + d/2, ggml neighbours 2i and 2i + 1; so the two halves of each head are interleaved.
    """
    halves = rows.reshape(-1, 2, head_rows // 2, rows.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def _not_finite(job: _Job) -> TensorError:
    tensor = job.target.tensor
    return TensorError(
        f"tensor {tensor.source.name if tensor.source else tensor.name}: "
        f"NaN or Inf within rows {job.first_row} to {job.first_row + job.rows - 1}",
        hint="The checkpoint is damaged or diverged in training; get another copy.",
    )


class _Worker:
    def __init__(self, ggml: GGML, files: Mapping[Path, SharedFile], output: SharedFile) -> None:
        self._ggml, self._files, self._output = ggml, files, output
        self._scratch = _Scratch()

    def run(self, job: _Job) -> None:
        tensor, kind = job.target.tensor, job.target.kind
        offset = job.target.offset + job.first_row * kind.row_bytes(tensor.n_per_row)
        if tensor.source and tensor.source.dtype == kind.name and kind.is_quantised:
            self._output.write_at(self._copy(job).data, offset)
            return
        values = self._load(job)
        # The sum is non-finite if any value is; finite values may overflow it, hence the recheck.
        with np.errstate(over="ignore", invalid="ignore"):
            suspicious = not np.isfinite(values.sum())
        if suspicious and not np.isfinite(values).all():
            raise _not_finite(job)
        nbytes = job.rows * kind.row_bytes(tensor.n_per_row)
        packed = self._scratch.get("packed", nbytes)
        self._ggml.quantise(
            kind, values.ctypes.data, packed.ctypes.data, job.rows, tensor.n_per_row
        )
        if not self._ggml.is_valid(kind, packed.ctypes.data, nbytes):
            raise TensorError(
                f"tensor {tensor.name}: values too large for type {kind.name}",
                hint="Choose a type with a larger range: --type bf16 or --type f32.",
            )
        self._output.write_at(packed.data, offset)

    def _copy(self, job: _Job) -> npt.NDArray[np.uint8]:
        """Return the job's rows as they are; quantising them again would only lose."""
        raw = self._read(job)
        if not self._ggml.is_valid(job.target.kind, raw.ctypes.data, raw.nbytes):
            raise _not_finite(job)
        return raw

    def _read(self, job: _Job) -> npt.NDArray[np.uint8]:
        """Return the bytes of the job's rows, one after the other, as the source has them."""
        tensor = job.target.tensor
        ref = tensor.source
        assert ref is not None  # noqa: S101 - asked for tensors with a source only
        row_bytes = ref.nbytes // tensor.rows
        raw = self._scratch.get("raw", job.rows * row_bytes)
        read_rows(self._files, ref, job.first_row, raw.reshape(job.rows, row_bytes))
        return raw

    def _load(self, job: _Job) -> npt.NDArray[np.float32]:
        """Return the job's rows as float32, contiguous."""
        tensor = job.target.tensor
        count = job.rows * tensor.n_per_row
        if tensor.values is not None:
            return tensor.values
        ref = tensor.source
        assert ref is not None  # noqa: S101 - a tensor has either values or a source
        raw = self._read(job)
        if tensor.permuted_heads:
            head_rows = tensor.rows // tensor.permuted_heads
            raw = permute_rows(raw.reshape(job.rows, -1), head_rows).reshape(-1)
        if ref.dtype == "F32":
            return raw.view(np.float32)
        values = self._scratch.get("float32", count * 4)
        self._ggml.to_float32(ref.dtype, raw.ctypes.data, values.ctypes.data, count)
        return values.view(np.float32)


def quantise_to_file(
    targets: Sequence[Target],
    path: Path,
    *,
    threads: int,
    progress: Callable[[str, int], None],
) -> None:
    """Fill the reserved file ``path`` with every target's data.

    ``progress(name, nbytes)`` is called in this thread after each chunk, with the tensor's name
    and the bytes that were written.

    Raises:
        TensorError: NaN or Inf in the source, or a value beyond the target type's range.
        SourceError: a shard shrank while it was read. OSError: as the system reports it.
    """
    ggml = load_ggml()
    lock, stop = threading.Lock(), threading.Event()
    jobs = _jobs(targets)
    done: queue.SimpleQueue[_Job | BaseException | None] = queue.SimpleQueue()

    def work(worker: _Worker) -> None:
        try:
            while not stop.is_set():
                with lock:
                    job = next(jobs, None)
                if job is None:
                    break
                worker.run(job)
                done.put(job)
        except BaseException as error:  # noqa: BLE001 - carried to the calling thread
            done.put(error)
        finally:
            done.put(None)

    with contextlib.ExitStack() as stack:
        sources = {
            piece.path
            for target in targets
            if target.tensor.source
            for piece in target.tensor.source.pieces
        }
        files = {source: stack.enter_context(SharedFile(source)) for source in sorted(sources)}
        output = stack.enter_context(SharedFile(path, write=True))
        pool = [
            threading.Thread(target=work, args=(_Worker(ggml, files, output),), daemon=True)
            for _ in range(threads)
        ]
        stack.callback(_join, pool, stop)
        for thread in pool:
            thread.start()
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
        output.sync()


def _join(pool: Sequence[threading.Thread], stop: threading.Event) -> None:
    stop.set()
    for thread in pool:
        thread.join()


def quantise_rows(kind: GGMLType, values: npt.NDArray[np.float32]) -> bytes:
    """Quantise a small float32 array ``[rows, n_per_row]`` in memory."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    rows, n_per_row = values.shape
    packed = ctypes.create_string_buffer(rows * kind.row_bytes(n_per_row))
    load_ggml().quantise(kind, values.ctypes.data, ctypes.addressof(packed), rows, n_per_row)
    return packed.raw
