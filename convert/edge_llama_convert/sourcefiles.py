"""Check that the source's files are whole, and that they hold still while they are read."""

from __future__ import annotations

import contextlib
import errno
import os
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import OutputError, SourceError
from .naming import listed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from .refs import TensorRef

#: A run of this many bytes that was never written is taken for a missing part of a download.
#: Shorter ones occur in whole files too: a copy that leaves out blocks of zeros (``cp --sparse``)
#: does so for the unused rows of a vocabulary. A matrix that is nothing but zeros is in no model.
MIN_HOLE_BYTES = 1024 * 1024

_AGAIN = (
    "Download the file again and let it finish. If the zeros are real, a full copy has no such "
    "gaps: cp --sparse=never."
)


#: What decides about the result besides the weights; the model card names licence and authors.
_TEXT_SUFFIXES = {".json", ".jinja", ".model"}
_MODEL_CARD = "README.md"

#: A folder of chat templates within a checkpoint's.
_TEMPLATES = "additional_chat_templates"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the source and its device, inode, size and time before it was read."""

    path: Path
    state: tuple[int, int, int, int]


def record(source: Path) -> tuple[SourceFile, ...]:
    """Return the files in a checkpoint's folder, or beside a file, as they are now."""
    files = []
    folder = source if source.is_dir() else source.parent
    for place in (folder, folder / _TEMPLATES):
        with contextlib.suppress(OSError):  # what cannot be read is explained by its reader
            for path in sorted(place.iterdir()):
                with contextlib.suppress(OSError):  # nor does a file matter that nobody reads
                    files.append(SourceFile(path, _state(path)))
    return tuple(files)


def record_one(path: Path) -> SourceFile:
    """Return a file as it is now; OSError as the system reports it."""
    return SourceFile(path, _state(path))


def only_used(
    files: Iterable[SourceFile], tensors: Iterable[TensorRef], *, texts: bool
) -> tuple[SourceFile, ...]:
    """Return those of ``files`` that hold the tensors or, with ``texts``, describe them."""
    paths = {piece.path for tensor in tensors for piece in tensor.pieces}
    return tuple(file for file in files if file.path in paths or (texts and _is_text(file.path)))


def _is_text(path: Path) -> bool:
    return path.suffix in _TEXT_SUFFIXES or path.name == _MODEL_CARD


def _state(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def check_unchanged(files: Iterable[SourceFile]) -> None:
    """Raise SourceError when a file is not what it was when it was recorded."""
    for file in files:
        try:
            changed = _state(file.path) != file.state
        except OSError:
            changed = True
        if changed:
            raise SourceError(
                f"{file.path}: changed since its header was read",
                hint="Is a download still running? Let it finish, then convert again.",
            )


def check_is_no_source(output: Path, files: Iterable[SourceFile]) -> None:
    """Raise OutputError when ``output`` is one of the source's files, also through links."""
    try:
        status = output.stat()
    except OSError:  # it does not exist, or what is wrong with it is found out elsewhere
        return
    for file in files:
        if file.state[:2] == (status.st_dev, status.st_ino):
            raise OutputError(
                f"{output}: is a file of the source ({file.path})",
                hint="Choose another name with -o; the source is never overwritten.",
            )


def check_no_holes(tensors: Iterable[TensorRef]) -> None:
    """Refuse files that were given their full size before all of their content arrived.

    Such a file passes every check of sizes; the filesystem knows which parts were never written,
    where it supports ``SEEK_HOLE`` (others report no holes).

    Raises:
        SourceError: a hole covers a whole matrix, :data:`MIN_HOLE_BYTES` of a tensor, or a
            tensor's part at the end of the file.
    """
    if not hasattr(os, "SEEK_HOLE"):
        return
    by_file: dict[Path, list[TensorRef]] = {}
    for tensor in tensors:
        for piece in tensor.pieces:
            by_file.setdefault(piece.path, []).append(piece)
    for path, pieces in by_file.items():
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise SourceError(
                f"{path}: {error.strerror or error}", hint="Check the path and its permissions."
            ) from error
        try:
            _check_file(path, descriptor, pieces)
        finally:
            os.close(descriptor)


def _check_file(path: Path, descriptor: int, pieces: list[TensorRef]) -> None:
    size = os.fstat(descriptor).st_size
    holes = _holes(descriptor, size)
    begins, ends = [begin for begin, _ in holes], [end for _, end in holes]
    missing = []
    for piece in sorted(pieces, key=lambda piece: piece.offset):
        # Compressing filesystems may report very many.
        first = bisect_right(ends, piece.offset)
        last = bisect_left(begins, piece.offset + piece.nbytes)
        if any(_is_missing(piece, begin, end, size) for begin, end in holes[first:last]):
            missing.append(piece.name)
    if missing:
        raise SourceError(
            f"{path}: not completely written: data of {listed(missing)} is missing",
            hint=_AGAIN,
        )


def _is_missing(piece: TensorRef, begin: int, end: int, size: int) -> bool:
    covered = min(end, piece.offset + piece.nbytes) - max(begin, piece.offset)
    is_whole_matrix = len(piece.shape) > 1 and covered >= piece.nbytes
    return covered > 0 and (covered >= MIN_HOLE_BYTES or is_whole_matrix or end == size)


def _holes(descriptor: int, size: int) -> list[tuple[int, int]]:
    """Return the holes of a file as (begin, end) in bytes; none where that is not supported."""
    holes: list[tuple[int, int]] = []
    at = 0
    try:
        while at < size:
            begin = os.lseek(descriptor, at, os.SEEK_HOLE)
            if begin >= size:
                break
            try:
                at = os.lseek(descriptor, begin, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:  # ENXIO: no data up to the end
                    raise
                at = size
            holes.append((begin, at))
    except OSError:
        return holes
    return holes
