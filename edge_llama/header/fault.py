"""The error for a file that is damaged, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ModelFileError, one_line

if TYPE_CHECKING:
    from pathlib import Path

FETCH = "The file is damaged or incomplete; download or convert it again."


def damaged(path: Path, problem: str, hint: str = FETCH) -> ModelFileError:
    """Return the error for the file at ``path``; ``problem`` may quote what is in it."""
    return ModelFileError(f"{path}: {one_line(problem)}", hint=hint)
