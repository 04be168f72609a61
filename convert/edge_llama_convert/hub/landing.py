"""A folder of the user's, ``ROOT/org/name``, to which files of a repository are brought whole.

Content arrives in ``ROOT/.incoming``, on the same disk, and gets its name when it has been
verified; so a name always stands for a whole file, and an interrupted download is gone on with.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from httpx2 import HTTPError

from ..errors import HubError
from ..fileio import FULL
from .cache import Cache
from .files import hash_file
from .space import check_space

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from .files import HubFile

_RESUME = "What has arrived is kept; run the command again to go on."


@dataclass(frozen=True)
class Landing:
    """Where the files of the repository ``org/name`` come to lie under ``root``."""

    root: Path
    repo: str

    def path(self, file: HubFile) -> Path:
        """Return the file's place; its name is one that stays within the folder."""
        return self.root / self.repo / file.name

    @property
    def cache(self) -> Cache:
        """Where content is on its way."""
        return Cache(self.root / ".incoming" / self.repo.replace("/", "--"))

    def check_space(self, files: Iterable[HubFile]) -> None:
        """Raise HubError unless what is missing fits on the disk."""
        missing = sum(
            file.size - self.cache.arrived(file) for file in files if not self.path(file).exists()
        )
        hint = "Free some space, or keep models on another disk."
        check_space(self.repo, missing, self.root, hint=hint)

    def holds(self, file: HubFile, advance: Callable[[int], object]) -> bool:
        """Whether the file is in its place and is what the hub states."""
        path = self.path(file)
        if not path.is_file() or path.stat().st_size != file.size:
            return False
        digest = file.digest()
        hash_file(path, digest, advance)
        if digest.hexdigest() == file.key:
            return True
        advance(-file.size)
        return False

    def place(self, file: HubFile) -> None:
        """Give content that has arrived, and was verified, its name."""
        self._rename(self.cache.content(file), file)

    def adopt(self, file: HubFile, source: Path) -> None:
        """Take a verified file from elsewhere on this machine; no second copy if possible."""
        content = self.cache.content(file)
        content.parent.mkdir(parents=True, exist_ok=True)
        content.unlink(missing_ok=True)
        try:
            os.link(source.resolve(), content)
        except OSError:  # another disk, or a system without links
            shutil.copyfile(source, content)
            with content.open("rb+") as copy:
                os.fsync(copy.fileno())
        self._rename(content, file)

    def _rename(self, content: Path, file: HubFile) -> None:
        target = self.path(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        content.replace(target)
        content.unlink(missing_ok=True)  # renaming a file to itself, by another link, does nothing
        shutil.rmtree(self.cache.path / ".edge-llama", ignore_errors=True)
        for folder in (content.parent, self.cache.path):
            with contextlib.suppress(OSError):  # other downloads are on their way
                folder.rmdir()

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of the disk into HubError; those of the connection are left alone."""
        try:
            yield
        except OSError as error:
            if isinstance(error, HTTPError):
                raise
            full = error.errno in FULL
            raise HubError(
                f"{error.filename or self.root}: {error.strerror or error}",
                hint=f"Free some space, or keep models on another disk. {_RESUME}"
                if full
                else "Check the folder and its permissions.",
            ) from error
