"""A checkpoint's model card, the header of README.md, in types that GGUF's keys can hold.

Anyone may write anything there: ``version: 1.0`` is a number in YAML, a tag may be a year. Such
values become text; what no key can hold is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gguf

from .errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

#: Real ones have some kilobytes; the whole file is read to find the end of its header.
_MAX_BYTES = 16 * 1024 * 1024

#: Keys that may hold several values, or an object each; any other holds one text.
_LISTS = {
    *("base_model", "base_models", "base_model_sources"),
    *("dataset", "datasets", "dataset_sources"),
    *("tags", "pipeline_tag", "language", "languages", "license"),
}


def read_card(folder: Path) -> dict[str, Any]:
    """Return the header of the folder's README.md: texts, and lists of texts or flat objects.

    Raises:
        SourceError: the file cannot be read, or its header is not YAML.
    """
    path = folder / "README.md"
    try:
        if path.is_file() and path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"the file is larger than {_MAX_BYTES >> 20} MiB")
        card = gguf.Metadata.load_model_card(folder)
    except Exception as error:  # PyYAML, which gguf uses, has an exception tree of its own
        raise SourceError(
            f"{path}: its header is not valid YAML ({error})",
            hint="Mend the lines between the two --- or take the file away; it is the model card.",
        ) from error
    plain = {str(key): _value(str(key), value) for key, value in card.items()}
    return {key: value for key, value in plain.items() if value is not None}


def _value(key: str, value: Any) -> str | list[str | dict[str, str]] | None:
    if not isinstance(value, list):
        return _text(value)
    if key not in _LISTS:
        return ", ".join(text for text in map(_text, value) if text is not None) or None
    items = [_object(item) if isinstance(item, dict) else _text(item) for item in value]
    return [item for item in items if item is not None]


def _object(value: dict[Any, Any]) -> dict[str, str]:
    texts = {str(key): _text(item) for key, item in value.items()}
    return {key: text for key, text in texts.items() if text is not None}


def _text(value: Any) -> str | None:
    """Return a scalar as text, None for what is no scalar or cannot be written as UTF-8."""
    if value is None or isinstance(value, dict | list | set | tuple | bytes):
        return None
    # YAML reads a bare "no" as false; here it is the language or the answer.
    text = ("no", "yes")[value] if isinstance(value, bool) else str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text
