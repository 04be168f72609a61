"""Tokenizer files -> a GGUF vocabulary."""

from .bpe import read_bpe
from .vocabulary import Vocabulary

__all__ = ["Vocabulary", "read_bpe"]
