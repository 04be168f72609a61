"""What a folder is that is no checkpoint: an adapter, a hub's cache, a GGUF in a folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .errors import SourceError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "consolidated*.pth")
_ADAPTER = "adapter_config.json"


def refuse_foreign(path: Path) -> None:
    """Refuse a folder that is known to be something else, by what it is.

    Raises:
        UnsupportedError: an adapter, or Mistral's own files. SourceError: the checkpoint is
            elsewhere, or its path is no text.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise SourceError(
            f"{path}: the path is not UTF-8, so not every library can open it",
            hint="Rename the folder, or give it by a link with a plain name.",
        ) from None
    if any(next(path.glob(pattern), None) for pattern in _WEIGHTS):
        return
    if (path / _ADAPTER).is_file():
        raise UnsupportedError(
            f"{path / _ADAPTER}: an adapter (LoRA){_base_of(path)}, not a model",
            hint="Merge it into its base model with peft (model.merge_and_unload(), then "
            "save_pretrained) and convert the result.",
        )
    if (path / "config.json").is_file():
        return
    if (path / "consolidated.safetensors").is_file():
        raise UnsupportedError(
            f"{path}: consolidated.safetensors is in Mistral's own format",
            hint="Download the Hugging Face files of the same model: config.json, "
            "model*.safetensors and the tokenizer.",
        )
    ggufs = sorted(path.glob("*.gguf"))
    if ggufs:
        raise SourceError(
            f"{path}: no checkpoint, but {len(ggufs)} GGUF files, e.g. {ggufs[0].name}",
            hint=f"To convert one, give the file itself: {ggufs[0]}",
        )
    below = sorted(
        file.parent for depth in ("*", "snapshots/*") for file in path.glob(f"{depth}/config.json")
    )
    if below:
        raise SourceError(
            f"{path}: no checkpoint, but there is one in {below[0].relative_to(path)}",
            hint=f"Give the folder that holds config.json: {below[0]}",
        )


def _base_of(path: Path) -> str:
    """Return `` of NAME`` if the adapter says of which model, else nothing."""
    try:
        content = json.loads((path / _ADAPTER).read_text(encoding="utf-8")[:100_000])
        base = content.get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        return ""
    return f" of {base[:100]}" if isinstance(base, str) and base else ""
