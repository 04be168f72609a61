"""JSON Schema: read, checked keyword by keyword, and written as rules."""

from .options import JsonOptions
from .source import SchemaSource

__all__ = ["JsonOptions", "SchemaSource"]
