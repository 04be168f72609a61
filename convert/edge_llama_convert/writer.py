"""The GGUF file: header bytes, where each tensor goes, and a publish that is all or nothing."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import gguf

from .errors import OutputError
from .fileio import FULL, SharedFile
from .header import PackedKeys, Slot, append_key, pack_header, pack_keys, pack_string
from .quantize import Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from .ggml import GGMLType
    from .tensors import GGUFTensor

#: Tensor data is aligned to this many bytes (GGUF's default).
ALIGNMENT = gguf.GGUF_DEFAULT_ALIGNMENT


def aligned(size: int) -> int:
    """Return ``size`` in bytes, rounded up to the alignment of tensor data."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Layout:
    """A GGUF that has not been written: its header and the place of every tensor.

    Attributes:
        header: with the padding before the data.
        targets: the tensors; their offsets count from the beginning of the file.
        keys_end: where the metadata ends in the header.
        slot: room for a last key's text, see :func:`with_slot`.
    """

    header: bytes
    targets: tuple[Target, ...]
    keys_end: int
    slot: Slot | None = None

    @property
    def nbytes(self) -> int:
        """Size of the whole file in bytes."""
        if not self.targets:
            return len(self.header)
        last = self.targets[-1]
        return aligned(last.offset + last.nbytes)


def lay_out(
    writer: gguf.GGUFWriter,
    tensors: Sequence[GGUFTensor],
    kinds: Sequence[GGMLType],
    more: Iterable[bytes] = (),
) -> Layout:
    """Give every tensor its place after the metadata that ``writer`` holds, and ``more`` keys."""
    return place(pack_keys(writer).plus(more), tensors, kinds)


def place(keys: PackedKeys, tensors: Sequence[GGUFTensor], kinds: Sequence[GGMLType]) -> Layout:
    """Give every tensor its place after finished metadata, in order."""
    offsets, end = [], 0
    for tensor, kind in zip(tensors, kinds, strict=True):
        offsets.append(end)
        end = aligned(end + tensor.rows * kind.row_bytes(tensor.n_per_row))
    header = pack_header(keys, tensors, kinds, offsets)
    header += bytes(aligned(len(header)) - len(header))
    targets = [
        Target(tensor, kind, len(header) + offset)
        for tensor, kind, offset in zip(tensors, kinds, offsets, strict=True)
    ]
    return Layout(header, tuple(targets), keys.end)


def with_slot(layout: Layout, key: str, nbytes: int) -> Layout:
    """Return the layout with one more key, the last: at least ``nbytes`` of spaces to fill in."""
    empty = len(pack_string(key, b""))
    nbytes = aligned(empty + nbytes) - empty  # so that all else only moves
    entry = pack_string(key, b" " * nbytes)
    return replace(
        layout,
        header=append_key(layout.header, layout.keys_end, entry),
        targets=tuple(replace(each, offset=each.offset + len(entry)) for each in layout.targets),
        keys_end=layout.keys_end + len(entry),
        slot=Slot(layout.keys_end + empty, nbytes),
    )


def check_writable(path: Path, *, force: bool) -> None:
    """Refuse early what could only fail late.

    Raises:
        OutputError: ``path`` exists and ``force`` is false, or is no regular file; its folder is
            a file or may not be written to.
    """
    try:
        if path.is_dir():
            raise OutputError(f"{path}: is a folder", hint="Name the file: -o FOLDER/NAME.gguf")
        if path.exists() and not path.is_file():  # a device would be replaced by a file
            raise OutputError(
                f"{path}: not a regular file", hint="Name the file: -o FOLDER/NAME.gguf"
            )
        if os.path.lexists(path) and not force:  # also a link that leads nowhere
            raise OutputError(
                f"{path}: already exists", hint="Use --force to replace it, or -o for another name."
            )
        folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
        if not folder.is_dir():
            raise OutputError(
                f"{path}: {folder} is not a folder",
                hint="Choose another place with -o.",
            )
        effective = os.access in os.supports_effective_ids
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=effective):
            raise OutputError(
                f"{path}: no permission to write to {folder}",
                hint="Change the folder's permissions, or choose another with -o.",
            )
    except OSError as error:
        raise explain(error, path, 0) from error


@contextlib.contextmanager
def publish(path: Path, nbytes: int, *, force: bool) -> Iterator[Path]:
    """Yield a temporary file of ``nbytes`` beside ``path`` that takes its name at the end.

    The space is claimed first, so that a full disk is known before any work. When the block
    raises, the temporary file is removed and whatever was at ``path`` stays as it was.

    Raises:
        OutputError: no space, no permission, or ``path`` has appeared meanwhile.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        with SharedFile(temporary, write=True) as file:
            file.reserve(nbytes)
        yield temporary
        take_name(temporary, path, force=force)
    except OSError as error:
        raise explain(error, path, nbytes) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def take_name(temporary: Path, path: Path, *, force: bool) -> None:
    """Rename, and see to it that the disk knows; a file at ``path`` is only lost with ``force``."""
    if force:
        temporary.replace(path)
    else:
        try:
            os.link(temporary, path)  # unlike rename, it never replaces a file
        except FileExistsError:
            check_writable(path, force=False)
            raise
        except OSError:  # a filesystem without hard links, e.g. FAT
            check_writable(path, force=False)
            temporary.rename(path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def explain(error: OSError, path: Path, nbytes: int) -> OutputError:
    """Return what to say of a failure to write ``nbytes`` at ``path``."""
    if error.errno in FULL:
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(path.parent).free
            return OutputError(
                f"{path}: no space for {nbytes / 1e6:,.0f} MB ({free / 1e6:,.0f} MB free on the "
                "disk; a quota or file-size limit may be lower)",
                hint="Free some space, choose another folder with -o, or a smaller --type.",
            )
    return OutputError(
        f"{path}: {error.strerror or error}",
        hint="Check the folder and its permissions, or choose another with -o.",
    )
