"""Where a checkpoint's files are: all in a folder, or some of the weights still on a hub."""

from __future__ import annotations

import fnmatch
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from .fileio import check_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Folder:
    """The files of a checkpoint.

    Attributes:
        path: the folder.
        remote: how to open the files that are not in it yet, by name. They are read in part, as
            the headers of weights are.
    """

    path: Path
    remote: Mapping[str, Callable[[], BinaryIO]] = field(default_factory=dict)

    def find(self, pattern: str) -> tuple[Path, ...]:
        """Return the files whose name matches, sorted; remote ones have the path they will get."""
        names = {file.name for file in self.path.glob(pattern)}
        names.update(fnmatch.filter(self.remote, pattern))
        return tuple(self.path / name for name in sorted(names))

    def holds(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return name in self.remote or (self.path / name).is_file()

    def open(self, path: Path) -> BinaryIO:
        """Open one of the files for reading.

        Raises:
            OSError: as the system reports it. SourceError: not a regular file.
            HubError: a remote file cannot be read.
        """
        if path.name in self.remote:
            return self.remote[path.name]()
        return open_regular(path)


def given_name(path: Path) -> str:
    """Return the name of a folder or file as it was given, also of "."; links keep their own."""
    return Path(os.path.abspath(path)).name  # noqa: PTH100 - resolve() would follow links


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; SourceError for what is no file, like a pipe."""
    check_regular(path)
    return path.open("rb")
