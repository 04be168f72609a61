"""A model's folder in huggingface_hub's cache: contents by checksum, and what is known of them.

Layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache. Only ``.edge-llama`` is
ours: it remembers which contents were compared with their checksums, so that once is enough.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from huggingface_hub import constants

from ..errors import HubError
from .files import hash_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .files import HubFile


@dataclass(frozen=True)
class Cache:
    """The folder of one model, ``models--org--name``."""

    path: Path

    def content(self, file: HubFile) -> Path:
        """Return where the file's content is, or will be."""
        return self.path / "blobs" / _key(file)

    def partial(self, file: HubFile) -> Path:
        """Return where content is while it is not complete; the name older hub versions use."""
        return self.content(file).with_name(f"{_key(file)}.incomplete")

    def lock(self, file: HubFile) -> Path:
        """Return the lock that processes hold while they fetch the file."""
        return self.path.parent / ".locks" / self.path.name / f"{_key(file)}.lock"

    def arrived(self, file: HubFile) -> int:
        """Return how many bytes of the file's content are here, complete or not."""
        for path in (self.content(file), self.partial(file)):
            with contextlib.suppress(OSError):
                return min(path.stat().st_size, file.size)
        return 0

    def check(self, file: HubFile, path: Path, advance: Callable[[int], object]) -> None:
        """Compare a file with its size and checksum, and remove it when they are wrong.

        Raises:
            HubError: the file is damaged.
        """
        if self._is_stamped(file, path):
            advance(file.size)
            return
        if path.stat().st_size == file.size:
            digest = file.digest()
            hash_file(path, digest, advance)
            if file.key in {None, digest.hexdigest()}:
                self.stamp(file, path)
                return
        content = path.resolve()  # a file in a snapshot is a link to its content
        path.unlink()
        content.unlink(missing_ok=True)
        raise damaged(file)

    def stamp(self, file: HubFile, path: Path) -> None:
        """Note that a large file was compared; without effect in a read-only cache."""
        with contextlib.suppress(OSError):
            if file.sha256:
                stamp = self._stamp(file)
                stamp.parent.mkdir(exist_ok=True)
                stamp.write_text(_state(path), encoding="ascii")

    def link(self, file: HubFile, path: Path) -> None:
        """Give the file's content its name in a snapshot, as huggingface_hub does."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # a link whose content is gone
        content = self.content(file)
        if not constants.HF_HUB_DISABLE_SYMLINKS:
            with contextlib.suppress(OSError):
                path.symlink_to(os.path.relpath(content, path.parent))
                return
        content.replace(path)  # a system without links; the cache knows this form, too

    def _is_stamped(self, file: HubFile, path: Path) -> bool:
        try:
            return bool(file.sha256) and self._stamp(file).read_text("ascii") == _state(path)
        except (OSError, ValueError):
            return False

    def _stamp(self, file: HubFile) -> Path:
        return self.path / ".edge-llama" / _key(file)


def damaged(file: HubFile) -> HubError:
    """Return the error for a file that is not what the hub states."""
    return HubError(
        f"{file.name}: damaged: its size or checksum is not what the hub states",
        hint="It was removed; run the command again to fetch it anew.",
    )


def _key(file: HubFile) -> str:
    if file.key is None:
        raise HubError(
            f"{file.name}: the hub states no checksum", hint="Download the model by other means."
        )
    return file.key


def _state(path: Path) -> str:
    """Return what changes when a file does."""
    status = path.stat()
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"
