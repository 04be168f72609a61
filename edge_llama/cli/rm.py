"""``edge-llama rm``: delete a model."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidOptionError
from . import console, options

if TYPE_CHECKING:
    from pathlib import Path


def rm(
    model: options.RequiredModel,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a model from a folder for models, all of its parts."""
    from ..catalog import find_model, list_models, model_folders, parts_of
    from ..units import format_bytes

    several = [entry.name for entry in list_models() if entry.origin == model]
    if len(several) > 1:  # to run, one would be chosen
        raise InvalidOptionError(
            f"{model}: {len(several)} models", hint=f"Name one of them: {', '.join(several)}."
        )
    path = find_model(model)
    folder = next((each for each in model_folders() if _is_in(path.parent, each)), None)
    if folder is None or not path.is_file():
        places = " or ".join(str(each) for each in model_folders())
        raise InvalidOptionError(
            f"{path} is no model in {places}", hint="Delete it by other means if you want to."
        )
    files = parts_of(path)
    size = format_bytes(sum(file.lstat().st_size for file in files))
    what = f"{path}{f' and {len(files) - 1} other parts' if len(files) > 1 else ''}, {size}"
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidOptionError(f"{what}: not deleted", hint="Nobody can be asked: use --yes.")
        if not console.confirm(f"Delete {what}?"):
            console.note("kept")
            raise typer.Exit(1)
    for file in files:
        file.unlink()
    for parent in path.parents:  # org/name/, if nothing else is in there
        if not _is_in(parent.parent, folder):
            break
        with contextlib.suppress(OSError):
            parent.rmdir()
    console.note(f"deleted {what}")


def _is_in(place: Path, folder: Path) -> bool:
    """Whether a folder is another, or within it."""
    found, root = place.resolve(), folder.resolve()
    return found == root or root in found.parents
