"""Write the files of a plan: all headers, then the tensors of one file after the other."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from .fileio import SharedFile
from .quantize import quantise_to_file
from .writeback import WriteBack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from .writer import Layout


def write_headers(files: Iterable[tuple[Path, Layout]]) -> None:
    """Write the headers of reserved files; OSError as the system reports it."""
    for path, layout in files:
        with SharedFile(path, write=True) as file:
            file.write_at(memoryview(layout.header), 0)


@contextlib.contextmanager
def filled(
    files: Iterable[tuple[Path, Layout]], *, threads: int, progress: Callable[[str, int], None]
) -> Iterator[None]:
    """Write the tensors of files; the block runs when all are written, its end waits for the disk.

    ``progress(name, nbytes)`` is called in this thread after each chunk; see
    :func:`quantize.quantise_to_file`, also for the errors raised.
    """
    with contextlib.ExitStack() as current:
        for path, layout in files:
            current.close()  # the one before is on the disk
            file = current.enter_context(SharedFile(path, write=True))
            disk = current.enter_context(WriteBack(file))

            def advance(tensor: str, nbytes: int, disk: WriteBack = disk) -> None:
                disk.wrote(nbytes)
                progress(tensor, nbytes)

            quantise_to_file(layout.targets, file, threads=threads, progress=advance)
            disk.flush()
        yield
