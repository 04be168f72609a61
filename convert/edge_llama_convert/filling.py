"""Write the files of a plan, one after the other, each header before its tensors."""

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


@contextlib.contextmanager
def filled(
    files: Iterable[tuple[Path, Layout]], *, threads: int, progress: Callable[[str, int], None]
) -> Iterator[None]:
    """Fill reserved files; the block runs when all is written, its end waits for the disk.

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

            file.write_at(memoryview(layout.header), 0)
            quantise_to_file(layout.targets, file, threads=threads, progress=advance)
            disk.flush()
        yield
