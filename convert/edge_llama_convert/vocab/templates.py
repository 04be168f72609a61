"""Chat templates: one, or several by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gguf

from ..checkpoint import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEFAULT = "default"


def read_templates(folder: Path, config: Mapping[str, Any]) -> object:
    """Return what ``named_templates`` takes, from wherever ``folder`` keeps its templates.

    ``config`` is the content of tokenizer_config.json, which comes first; then
    chat_template.jinja with those in additional_chat_templates, then chat_template.json.
    """
    if "chat_template" in config:
        value = config["chat_template"]
        return value if isinstance(value, str | list) else None
    main, older = folder / "chat_template.jinja", folder / "chat_template.json"
    if main.is_file():
        others = sorted((folder / "additional_chat_templates").glob("*.jinja"))
        named = [(DEFAULT, main), *((file.stem, file) for file in others)]
        return [
            {"name": name, "template": file.read_text(encoding="utf-8")} for name, file in named
        ]
    return read_json(older).get("chat_template") if older.is_file() else None


def named_templates(value: object) -> dict[str, str]:
    """Return the templates by name from what tokenizer_config.json or its companions hold.

    ``value`` is None, a template, or a list of ``{"name": ..., "template": ...}``. Characters
    that GGUF keys should not have become ``_``.

    Raises:
        TypeError: ``value`` is something else. ValueError: it cannot be written as UTF-8.
    """
    if value is None:
        return {}
    if isinstance(value, str):
        value = [{"name": DEFAULT, "template": value}]
    if not isinstance(value, list):
        raise TypeError("chat_template is neither a text nor a list")
    templates = {}
    for entry in value:
        if not isinstance(entry, dict) or not isinstance(entry.get("template"), str):
            raise TypeError("an entry of chat_template has no text")
        name = "".join(
            c if c.isascii() and c.isalnum() else "_" for c in str(entry.get("name", ""))
        )
        entry["template"].encode()  # a lone surrogate cannot be written
        if name:
            templates[name] = entry["template"]
    return templates


def add_templates(writer: gguf.GGUFWriter, templates: Mapping[str, str]) -> None:
    """Write all templates; unlike gguf's own function in an order that is always the same."""
    others = sorted(templates.keys() - {DEFAULT})
    for name in others:
        writer.add_string(gguf.Keys.Tokenizer.CHAT_TEMPLATE_N.format(name=name), templates[name])
    if others:
        writer.add_array(gguf.Keys.Tokenizer.CHAT_TEMPLATES, others)
    if DEFAULT in templates:
        writer.add_string(gguf.Keys.Tokenizer.CHAT_TEMPLATE, templates[DEFAULT])
