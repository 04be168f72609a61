"""A vocabulary as GGUF stores it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import gguf


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Tokens, their types, and what the tokenizer adds around a text.

    Attributes:
        model: ``tokenizer.ggml.model``: "gpt2" for byte-level BPE.
        pre: ``tokenizer.ggml.pre``: how the text is split before merging.
        tokens: one per row of the embedding.
        types: gguf.TokenType of each token.
        special: merges, special ids, add_bos/eos flags and the chat template.
        add_bos: overrides what the tokenizer's files say, when not None.
    """

    model: str
    pre: str
    tokens: Sequence[str]
    types: Sequence[int]
    special: gguf.SpecialVocab
    add_bos: bool | None = None

    def add_to(self, writer: gguf.GGUFWriter) -> None:
        """Write all keys in convert_hf_to_gguf.py's order."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(list(self.tokens))
        writer.add_token_types(list(self.types))
        if self.add_bos is not None and "bos" in self.special.add_special_token:
            self.special.add_special_token["bos"] = self.add_bos
        self.special.add_to_gguf(writer, quiet=True)
        if self.add_bos is not None:
            writer.add_add_bos_token(self.add_bos)
