"""What is the id of a model on a hub, and what is a path."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

#: ORG/NAME[@REVISION]; a revision is a branch, a tag, refs/pr/NUMBER or a commit.
_ID = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>\w[\w.+/-]*))?", re.ASCII
)

#: Whoever types one of these means a file, even if it is not there.
_FILES = (".gguf", ".safetensors", ".bin", ".pth", ".json")


@dataclass(frozen=True)
class HubId:
    """The id of a model.

    Attributes:
        repo: ``org/name``.
        revision: what was asked for; None for the default branch.
    """

    repo: str
    revision: str | None = None

    @property
    def name(self) -> str:
        """The model's name without its organisation."""
        return self.repo.rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}" if self.revision else self.repo

    @classmethod
    def parse(cls, source: str | Path) -> HubId | None:
        """Return the id that ``source`` is; None when it is a path.

        A path is what exists, any :class:`~pathlib.Path`, and what cannot be an id, such as
        ``./name``, ``/org/name`` and ``org/name/``.
        """
        if isinstance(source, Path) or os.path.lexists(source):
            return None
        match = _ID.fullmatch(source)
        if match is None or ".." in source or match["repo"].lower().endswith(_FILES):
            return None
        return cls(match["repo"], match["revision"])
