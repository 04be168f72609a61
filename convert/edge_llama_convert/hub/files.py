"""The files of a model on a hub, as the hub describes them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import HubError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_CHUNK = 1024 * 1024


class Digest(Protocol):
    """What hashlib returns."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""
        ...

    def hexdigest(self) -> str:
        """Return the digest of what was added."""
        ...


@dataclass(frozen=True)
class Fetching:
    """How far the files of a model are on their way from the hub.

    Attributes:
        action: "fetch" while a file arrives, "check" while one that is there is being read.
        file: its name.
        done: bytes of all files that are there, so far.
        total: bytes of all files.
    """

    action: str
    file: str
    done: int
    total: int


class Steps:
    """Adds up bytes over several files, and tells ``progress`` of every step."""

    def __init__(self, progress: Callable[[Fetching], object] | None, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def of(self, action: str, file: HubFile) -> Callable[[int], None]:
        """Return what takes the bytes of one file as they come."""

        def advance(nbytes: int) -> None:
            self._done += nbytes
            if self._progress is not None:
                self._progress(Fetching(action, file.name, self._done, self._total))

        return advance


@dataclass(frozen=True)
class HubFile:
    """One file of a repository.

    Attributes:
        name: with ``/`` between folders.
        size: in bytes.
        sha256: of the content; the hub knows it for large files (Git LFS), None for others.
        git_sha1: git's id of the content; the hub's checksum for small files.
    """

    name: str
    size: int
    sha256: str | None = None
    git_sha1: str | None = None

    @property
    def key(self) -> str | None:
        """The checksum by which the cache knows the file (its ETag); None if there is none."""
        return self.sha256 or self.git_sha1

    def digest(self) -> Digest:
        """Return a new digest whose result must be :attr:`key`."""
        if self.sha256:
            return hashlib.sha256()
        digest = hashlib.sha1(usedforsecurity=False)
        digest.update(b"blob %d\0" % self.size)
        return digest


def described(name: str, size: int, key: str | None) -> HubFile:
    """Return the file whose ETag is ``key``: a sha256, git's sha1, or neither."""
    sha256 = key if key and _SHA256.fullmatch(key) else None
    git_sha1 = key if key and _SHA1.fullmatch(key) else None
    return HubFile(name, size, sha256, git_sha1)


def from_listing(siblings: Iterable[Any], endpoint: str) -> dict[str, HubFile]:
    """Return the files by name from the hub's answer; names that lead elsewhere are left out.

    Raises:
        HubError: sizes are missing, so that it is not the answer of a hub as we know it.
    """
    files = {}
    for sibling in siblings:
        name, size, lfs = sibling.rfilename, sibling.size, sibling.lfs
        if lfs is not None:
            size = lfs.size
        if not isinstance(size, int) or size < 0:
            raise HubError(
                f"{endpoint}: does not tell the size of {name}",
                hint="Is HF_ENDPOINT a complete hub? Unset it to use huggingface.co.",
            )
        if is_plain(name):
            files[name] = described(name, size, lfs.sha256 if lfs else sibling.blob_id)
    return files


def is_plain(name: str) -> bool:
    """Whether the name stays within its folder, on every system."""
    parts = name.split("/")
    return not any(part in {"", ".", ".."} or set(part) & set('\\:*?"<>|\0') for part in parts)


def hash_file(path: Path, digest: Digest, advance: Callable[[int], object]) -> None:
    """Add a file's content to ``digest``; ``advance`` gets the bytes as they are read."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            advance(len(chunk))
