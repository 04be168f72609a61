"""A vocabulary as GGUF stores it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .templates import add_templates, named_templates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import gguf


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Tokens, their types, and what the tokenizer adds around a text.

    Attributes:
        model: ``tokenizer.ggml.model``: "gpt2" for byte-level BPE, "llama" for SentencePiece.
        pre: ``tokenizer.ggml.pre``: how the text is split before merging.
        tokens: one per row of the embedding.
        types: gguf.TokenType of each token.
        special: merges, special ids, add_bos/eos flags and the chat template.
        scores: for "llama": of two possible merges the one with the higher score comes first.
        add_bos: overrides what the tokenizer's files say, when not None.
        add_space_prefix: whether a text gets a space in front; None leaves it to llama.cpp.
        extra_ids: further special tokens by their role, e.g. ``{"eot": 32010}``.
    """

    model: str
    pre: str
    tokens: Sequence[str]
    types: Sequence[int]
    special: gguf.SpecialVocab
    scores: Sequence[float] | None = None
    add_bos: bool | None = None
    add_space_prefix: bool | None = None
    extra_ids: Mapping[str, int] = field(default_factory=dict)

    def add_to(self, writer: gguf.GGUFWriter) -> None:
        """Write all keys in convert_hf_to_gguf.py's order."""
        if self.add_space_prefix is not None:
            writer.add_add_space_prefix(self.add_space_prefix)
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(list(self.tokens))
        if self.scores is not None:
            writer.add_token_scores(list(self.scores))
        writer.add_token_types(list(self.types))
        if self.add_bos is not None and "bos" in self.special.add_special_token:
            self.special.add_special_token["bos"] = self.add_bos
        templates = named_templates(self.special.chat_template)
        self.special.chat_template = None
        self.special.add_to_gguf(writer, quiet=True)
        add_templates(writer, templates)
        for role, token in self.extra_ids.items():
            getattr(writer, f"add_{role}_token_id")(token)
        if self.add_bos is not None:
            writer.add_add_bos_token(self.add_bos)
