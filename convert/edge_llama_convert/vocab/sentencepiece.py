"""tokenizer.model, a SentencePiece model (Llama 1 and 2, Mistral, Mixtral) -> Vocabulary.

The rules for added tokens and padding are those of convert_hf_to_gguf.py
(``_create_vocab_sentencepiece`` in llama.cpp's conversion/base.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import gguf

from ..errors import TokenizerError
from .added import ADDED_SCORE, PADDING_SCORE, looks_special, user_defined
from .probe import encode_probes
from .special import FETCH, bos_override, extra_ids, read_special, space_prefix
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from sentencepiece import SentencePieceProcessor

    from ..checkpoint import Checkpoint

#: The largest real one has 4.2 MB.
_MAX_BYTES = 64 * 1024 * 1024


class _Table:
    """Tokens by id, unused rows first."""

    def __init__(self, size: int) -> None:
        self.tokens = [f"[PAD{number}]" for number in range(size)]
        self.scores = [PADDING_SCORE] * size
        self.types = [gguf.TokenType.UNUSED] * size

    def set(self, number: int, text: str, score: float, kind: gguf.TokenType) -> None:
        """Fill one row. Added tokens beyond the embedding cannot be used and are left out."""
        text.encode()  # a lone surrogate from a JSON file cannot be written
        if number < len(self.tokens):
            self.tokens[number], self.scores[number], self.types[number] = text, score, kind


def read_sentencepiece(checkpoint: Checkpoint, vocab_size: int) -> Vocabulary:
    """Read ``tokenizer.model`` and the tokens added in the JSON files beside it.

    ``vocab_size`` is the number of rows of the embedding; rows no token uses are filled.

    Raises:
        TokenizerError: a file is damaged, or the model has more pieces than the embedding rows.
    """
    path = checkpoint.path / "tokenizer.model"
    pieces, probes = _pieces(path)
    if len(pieces) > vocab_size:
        raise TokenizerError(
            f"{path}: {len(pieces)} pieces, but the embedding has {vocab_size} rows",
            hint="The tokenizer and the weights are of different checkpoints.",
        )
    table = _Table(vocab_size)
    for number, (text, score, kind) in enumerate(pieces):
        table.set(number, text, score, kind)
    _add_tokens(checkpoint, table)
    special = read_special(checkpoint, checkpoint.optional_json("tokenizer.json"), vocab_size)
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=table.tokens,
        types=[int(kind) for kind in table.types],
        scores=table.scores,
        special=special,
        probes=probes,
        add_bos=bos_override(vocab_size),
        add_space_prefix=space_prefix(checkpoint),
        extra_ids=extra_ids(checkpoint, special, table.tokens, table.types),
    )


def _pieces(
    path: Path,
) -> tuple[list[tuple[str, float, gguf.TokenType]], tuple[tuple[int, ...], ...]]:
    """Return text, score and type of every piece of the SentencePiece model, and its probes."""
    from sentencepiece import SentencePieceProcessor

    try:
        if path.stat().st_size > _MAX_BYTES:
            raise TokenizerError(
                f"{path}: larger than {_MAX_BYTES >> 20} MiB, not plausible for this file",
                hint=FETCH,
            )
        content = path.read_bytes()
        model = SentencePieceProcessor()
        if not content or not model.LoadFromSerializedProto(content):
            raise RuntimeError("it is empty")
        pieces = [
            (model.IdToPiece(number), model.GetScore(number), _kind(model, number))
            for number in range(model.GetPieceSize())
        ]
        if not all(math.isfinite(score) for _, score, _ in pieces):
            raise RuntimeError("a score is NaN or Inf")
        probes = encode_probes(model.encode)
    except OSError as error:
        raise TokenizerError(
            f"{path}: {error.strerror or error}", hint="Check the file's permissions."
        ) from error
    except (RuntimeError, UnicodeDecodeError) as error:  # as SentencePiece reports damage
        raise TokenizerError(
            f"{path}: not a SentencePiece model ({error})",
            hint=f"{FETCH} If tokenizer.json is the checkpoint's tokenizer, take this file away.",
        ) from error
    return pieces, probes


def _kind(model: SentencePieceProcessor, number: int) -> gguf.TokenType:
    if model.IsUnknown(number):
        return gguf.TokenType.UNKNOWN
    if model.IsControl(number):
        return gguf.TokenType.CONTROL
    if model.IsUnused(number):
        return gguf.TokenType.UNUSED
    if model.IsByte(number):
        return gguf.TokenType.BYTE
    return gguf.TokenType.NORMAL


def _add_tokens(checkpoint: Checkpoint, table: _Table) -> None:
    added = checkpoint.optional_json("added_tokens.json")
    decoder = checkpoint.optional_json("tokenizer_config.json").get("added_tokens_decoder") or {}
    try:
        for text, number in added.items():
            table.set(_id(number), text, ADDED_SCORE, gguf.TokenType.USER_DEFINED)
        for number, entry in decoder.items():
            text = str(entry["content"])
            if entry.get("special") or looks_special(text):
                table.set(_id(number), text, ADDED_SCORE, gguf.TokenType.CONTROL)
            else:
                kind = gguf.TokenType.USER_DEFINED
                table.set(_id(number), user_defined(text), ADDED_SCORE, kind)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TokenizerError(
            f"{checkpoint.path}: added_tokens.json or added_tokens_decoder in "
            f"tokenizer_config.json is damaged ({error})",
            hint=FETCH,
        ) from error


def _id(number: object) -> int:
    value = int(number) if isinstance(number, int | str) else -1
    if value < 0:
        raise ValueError(f"token id {number!r}")
    return value
