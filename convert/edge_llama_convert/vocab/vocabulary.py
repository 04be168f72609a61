"""A vocabulary as GGUF stores it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import TokenizerError
from .templates import add_templates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import gguf

    from .special import SpecialTokens


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Tokens, their types, and what the tokenizer adds around a text.

    Attributes:
        model: ``tokenizer.ggml.model``: "gpt2" for byte-level BPE, "llama" for SentencePiece.
        pre: ``tokenizer.ggml.pre``: how the text is split before merging.
        tokens: one per row of the embedding.
        types: gguf.TokenType of each token.
        special: special ids, add_bos/eos flags and the chat templates.
        probes: the original tokenizer's ids of :data:`probe.PROBES`, to compare with.
        merges: of a byte-level BPE: pairs of tokens, a space between them, in order.
        scores: for "llama": of two possible merges the one with the higher score comes first.
        add_bos: overrides what the tokenizer's files say, when not None.
        add_space_prefix: whether a text gets a space in front; None leaves it to llama.cpp.
        extra_ids: further special tokens by their role, e.g. ``{"eot": 32010}``.
        notes: where llama.cpp will treat text otherwise than the original, for the user.
    """

    model: str
    pre: str
    tokens: Sequence[str]
    types: Sequence[int]
    special: SpecialTokens
    probes: Sequence[Sequence[int]]
    merges: Sequence[str] = ()
    scores: Sequence[float] | None = None
    add_bos: bool | None = None
    add_space_prefix: bool | None = None
    extra_ids: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def check_texts(self, folder: Path) -> None:
        """Refuse tokens that llama.cpp, which finds them by their text, would mix up.

        Raises:
            TokenizerError: two tokens have one text, or one has a zero byte, where it ends there.
        """
        problem = None
        named = [text for text in self.tokens if text]  # llama.cpp names empty ones itself
        if len(set(named)) != len(named):
            (text, _), *_ = Counter(named).most_common(1)
            first, second = [i for i, token in enumerate(self.tokens) if token == text][:2]
            problem = f"tokens {first} and {second} are both {text[:40]!r}"
        elif any("\0" in text for text in named):
            problem = "a token holds a zero byte"
        if problem:
            raise TokenizerError(
                f"{folder}: {problem}; llama.cpp loads no such vocabulary",
                hint="See added_tokens.json, added_tokens_decoder in tokenizer_config.json and "
                "added_tokens in tokenizer.json; take the needless one out.",
            )

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
        if self.merges:
            writer.add_token_merges(list(self.merges))
        self._add_special(writer)
        add_templates(writer, self.special.templates)
        for role, token in self.extra_ids.items():
            getattr(writer, f"add_{role}_token_id")(token)
        if self.add_bos is not None:
            writer.add_add_bos_token(self.add_bos)

    def _add_special(self, writer: gguf.GGUFWriter) -> None:
        for role, token in self.special.ids.items():
            if add_id := getattr(writer, f"add_{role}_token_id", None):  # there is none for cls
                add_id(token)
        adds = self.special.add
        if self.add_bos is not None and "bos" in adds:
            adds = {**adds, "bos": self.add_bos}
        for role, added in adds.items():
            if add := getattr(writer, f"add_add_{role}_token", None):  # there is none for unk
                add(added)
