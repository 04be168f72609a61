"""The GGUF file: header bytes, where each tensor goes, and a publish that is all or nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gguf

from .errors import OutputError
from .fileio import SharedFile
from .quantize import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .ggml import GGMLType
    from .tensors import GGUFTensor

#: Tensor data is aligned to this many bytes (GGUF's default).
ALIGNMENT = gguf.GGUF_DEFAULT_ALIGNMENT

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def aligned(size: int) -> int:
    """Return ``size`` in bytes, rounded up to the alignment of tensor data."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Layout:
    """A GGUF that has not been written: its header and the place of every tensor.

    ``header`` includes the padding before the data; offsets of ``targets`` count from the
    beginning of the file.
    """

    header: bytes
    targets: tuple[Target, ...]

    @property
    def nbytes(self) -> int:
        """Size of the whole file in bytes."""
        if not self.targets:
            return len(self.header)
        last = self.targets[-1]
        return aligned(last.offset + last.nbytes)


def lay_out(
    writer: gguf.GGUFWriter, tensors: Sequence[GGUFTensor], kinds: Sequence[GGMLType]
) -> Layout:
    """Add the tensors' descriptions to ``writer`` and compute header and offsets."""
    import numpy as np

    for tensor, kind in zip(tensors, kinds, strict=True):
        nbytes = tensor.rows * kind.row_bytes(tensor.n_per_row)
        writer.add_tensor_info(
            tensor.name,
            tensor.shape,
            np.dtype(np.float32),  # ignored: raw_dtype decides
            nbytes,
            raw_dtype=gguf.GGMLQuantizationType(int(kind)),
        )
    return place(_header_bytes(writer), tensors, kinds)


def place(header: bytes, tensors: Sequence[GGUFTensor], kinds: Sequence[GGMLType]) -> Layout:
    """Pad a finished ``header`` and give every tensor its place behind it, in order."""
    header += bytes(aligned(len(header)) - len(header))
    targets, offset = [], len(header)
    for tensor, kind in zip(tensors, kinds, strict=True):
        targets.append(Target(tensor, kind, offset))
        offset = aligned(offset + targets[-1].nbytes)
    return Layout(header, tuple(targets))


def _header_bytes(writer: gguf.GGUFWriter) -> bytes:
    """Return what GGUFWriter would write before the tensor data; it only writes to files."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="edge-llama-") as folder:
        path = Path(folder) / "header"
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        return path.read_bytes()


def check_writable(path: Path, *, force: bool) -> None:
    """Refuse early what could only fail late.

    Raises:
        OutputError: ``path`` exists and ``force`` is false, or is a folder; its folder is a file
            or may not be written to.
    """
    try:
        if path.is_dir():
            raise OutputError(f"{path}: is a folder", hint="Name the file: -o FOLDER/NAME.gguf")
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
        raise _explain(error, path, 0) from error


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
        _take_name(temporary, path, force=force)
    except OSError as error:
        raise _explain(error, path, nbytes) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _take_name(temporary: Path, path: Path, *, force: bool) -> None:
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


def _explain(error: OSError, path: Path, nbytes: int) -> OutputError:
    if error.errno in _FULL:
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
