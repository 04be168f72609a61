"""The files a conversion reads, and fingerprints of them for the report."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import SourceError
from .fileio import MAX_JSON_BYTES, SharedFile, check_regular

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .plans import Plan

_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Input:
    """A file of the source.

    Attributes:
        path: the file.
        nbytes: its size.
        head: where the first tensor that is used begins in it, in bytes; None without tensors.
            What comes before is the header of a safetensors file or a GGUF.
    """

    path: Path
    nbytes: int
    head: int | None


def paths_of(plan: Plan) -> dict[Path, int | None]:
    """Return the files that decide about the result, and where their first tensor begins."""
    heads: dict[Path, int | None] = {file.path: None for file in plan.files}
    for target in plan.layout.targets:
        for ref in target.tensor.sources:
            for piece in ref.pieces:
                head = heads.get(piece.path)
                heads[piece.path] = piece.offset if head is None else min(piece.offset, head)
    return heads


def inputs_of(plan: Plan) -> dict[str, Input]:
    """Return the files that decide about the result, by their path within the source.

    Raises:
        OSError: one is not there.
    """
    folder = plan.source if plan.source.is_dir() else plan.source.parent
    sizes = {file.path: file.state[2] for file in plan.files}
    return {
        # Weights that came from a hub were not there yet when the plan was made.
        _name(path, folder): Input(path, sizes.get(path) or path.stat().st_size, head)
        for path, head in sorted(paths_of(plan).items())
    }


def _name(path: Path, folder: Path) -> str:
    inside = path.is_relative_to(folder)
    return path.relative_to(folder).as_posix() if inside else path.name


def fingerprints(
    files: Mapping[str, Input], known: Mapping[str, str], *, whole: bool
) -> dict[str, dict[str, Any]]:
    """Return the size and the sha256 of every file by name.

    Of weights it is the head's sha256, unless ``whole``; see :class:`Input`. ``known`` are sha256
    of whole files that need not be computed.

    Raises:
        SourceError: weights cannot be read.
    """
    return {
        name: {"bytes": file.nbytes, "sha256": known[name]}
        if name in known
        else _fingerprint(file, whole=whole)
        for name, file in files.items()
    }


def changed(
    stored: Mapping[str, Mapping[str, Any]], files: Mapping[str, Input], *, whole: bool
) -> list[str]:
    """Return the names of the files that are not those of the ``stored`` fingerprints.

    Weights of which the whole sha256 is stored are read only with ``whole``; else their size
    has to do.
    """
    names = sorted(stored.keys() ^ files.keys())
    for name in sorted(stored.keys() & files.keys()):
        file, then = files[name], stored[name]
        now: dict[str, Any] = {"bytes": file.nbytes}
        if whole or file.head is None or "sha256" not in then:
            now = _fingerprint(file, whole="sha256" in then)
        if any(then.get(key) != value for key, value in now.items()):
            names.append(name)
    return names


def _fingerprint(file: Input, *, whole: bool) -> dict[str, Any]:
    nbytes = file.nbytes if whole or file.head is None else file.head
    try:
        if file.head is None and nbytes > MAX_JSON_BYTES:  # no text of a checkpoint
            return {"bytes": nbytes}
        digest = _sha256(file.path, nbytes)
    except SourceError:
        if file.head is not None:
            raise
        return {"bytes": file.nbytes}  # a file that nobody read
    if nbytes == file.nbytes:
        return {"bytes": nbytes, "sha256": digest}
    return {"bytes": file.nbytes, "head_bytes": nbytes, "head_sha256": digest}


def _sha256(path: Path, nbytes: int) -> str:
    """Return the sha256 of a file's first ``nbytes``, in hexadecimal."""
    check_regular(path)
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(_BLOCK, nbytes)))
    with SharedFile(path) as file:
        for begin in range(0, nbytes, _BLOCK):
            part = buffer[: min(_BLOCK, nbytes - begin)]
            file.read_into(part, begin)
            digest.update(part)
    return digest.hexdigest()
