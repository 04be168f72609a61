"""The one place where the chat meets grammars: a JSON Schema file -> what answers must follow."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any


def load_grammar(path: str | None) -> Any:
    """Return the grammar of a JSON Schema file, None for none.

    Raises:
        EdgeLlamaError: the file cannot be read, or is no schema that can be followed.
    """
    if path is None:
        return None
    grammar = importlib.import_module("edge_llama.grammar").Grammar
    return grammar.json_schema(Path(path))


def with_grammar(grammar: Any) -> dict[str, Any]:
    """Return the keywords that make a generation follow ``grammar``."""
    return {} if grammar is None else {"grammar": grammar}
