from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import IncompleteError
from .lark import inline_json

if TYPE_CHECKING:
    from .lark import LarkText


@dataclass(frozen=True)
class SchemaSource:
    schema: str
    type: Any = None

    @classmethod
    def of(cls, schema: Any) -> SchemaSource:
        kind = None
        if isinstance(schema, type):
            from pydantic import TypeAdapter

            kind, schema = schema, TypeAdapter(schema).json_schema()
        if isinstance(schema, Path):
            schema = schema.read_text()
        if isinstance(schema, str):
            schema = json.loads(schema)
        return cls(json.dumps(schema), kind)

    def lower(self, lark: LarkText) -> str:
        schema = json.loads(self.schema)
        schema["x-guidance"] = {
            "item_separator": ", ",
            "key_separator": ": ",
            "whitespace_flexible": False,
        }
        return lark.rule(inline_json(schema))

    def value(self, text: str) -> Any:
        try:
            value = json.loads(text)
        except ValueError as error:
            raise IncompleteError(
                f"{error}", hint="Allow more tokens (max_tokens).", text=text
            ) from None
        if self.type is not None:
            from pydantic import TypeAdapter

            return TypeAdapter(self.type).validate_python(value)
        return value
