"""Tokenizer files -> a GGUF vocabulary."""

from .reader import read_vocabulary
from .vocabulary import Vocabulary

__all__ = ["Vocabulary", "read_vocabulary"]
