"""tokenizer.model, a SentencePiece model (Llama 1 and 2, Mistral, Mixtral) -> Vocabulary.

The rules for added tokens and padding are those of convert_hf_to_gguf.py
(``_create_vocab_sentencepiece`` in llama.cpp's conversion/base.py).
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import gguf

from ..errors import TokenizerError, UnsupportedError
from .added import ADDED_SCORE, PADDING_SCORE, looks_special, user_defined
from .bpe_scores import check_byte_tokens, encode
from .probe import PROBES, encode_probes
from .special import FETCH, bos_override, extra_ids, read_special, space_prefix
from .spmodel import ModelSpec, ModelType, read_spec, with_space_prefix, without_rewriting
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
    prefix = space_prefix(checkpoint)
    model = _read(path, prefix=prefix)
    notes = _notes(model, path)
    if len(model.pieces) > vocab_size:
        raise TokenizerError(
            f"{path}: {len(model.pieces)} pieces, but the embedding has {vocab_size} rows",
            hint="The tokenizer and the weights are of different checkpoints.",
        )
    table = _Table(vocab_size)
    for number, (text, score, kind) in enumerate(model.pieces):
        table.set(number, text, score, kind)
    check_byte_tokens(table.tokens, path)
    _mark_user_defined(table, model.spec)
    _add_tokens(checkpoint, table)
    check_byte_tokens(table.tokens, path)  # an added token may have taken a place
    special = read_special(checkpoint, checkpoint.optional_json("tokenizer.json"), vocab_size)
    if prefix is None and not model.spec.adds_space:  # llama.cpp adds one unless told otherwise
        prefix = False
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=table.tokens,
        types=[int(kind) for kind in table.types],
        scores=table.scores,
        special=special,
        probes=model.probes,
        add_bos=bos_override(vocab_size),
        add_space_prefix=prefix,
        extra_ids=extra_ids(checkpoint, special, table.tokens, table.types),
        notes=notes,
    )


def _notes(model: _Model, path: Path) -> tuple[str, ...]:
    """Return what llama.cpp's SentencePiece tokenizer, which merges by score, does otherwise.

    Raises:
        UnsupportedError: it would misread most texts.
    """
    spec, problem = model.spec, None
    what = f"{' and '.join(spec.rewrites)} before it cuts a text into tokens"
    if spec.model_type not in {ModelType.BPE, ModelType.CHAR}:
        kind = spec.model_type.name.lower() if spec.model_type else "unknown"
        problem = f"a SentencePiece model of type {kind}; supported is bpe"
    elif spec.space_after or not spec.escapes_spaces:
        problem = "its pieces have spaces where llama.cpp does not look for them"
    elif model.rewritten > len(PROBES) // 2:
        problem = f"it {what}, which llama.cpp does not"
    if problem:
        raise UnsupportedError(
            f"{path}: {problem}",
            hint="llama.cpp would cut texts into other tokens than the model was trained on.",
        )
    if not model.rewritten:
        return ()
    return (f"{path.name} {what}; llama.cpp does not, so such texts get other tokens",)


@dataclass(frozen=True)
class _Model:
    """A SentencePiece model: text, score and type of every piece, and its settings.

    ``probes`` are the ids of the probe texts as they are; ``rewritten`` counts those that it would
    rewrite first, and then cut otherwise.
    """

    pieces: list[tuple[str, float, gguf.TokenType]]
    spec: ModelSpec
    probes: tuple[tuple[int, ...], ...]
    rewritten: int


def _read(path: Path, *, prefix: bool | None) -> _Model:
    """Read ``path``; ``prefix`` overrules whether a text gets a space in front, if not None."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise TokenizerError(
                f"{path}: larger than {_MAX_BYTES >> 20} MiB, not plausible for this file",
                hint=FETCH,
            )
        content = path.read_bytes()
        if not content:
            raise RuntimeError("it is empty")
        spec = read_spec(content)
        if prefix is not None:
            spec = replace(spec, adds_space=prefix)
            content = with_space_prefix(content, adds_space=prefix)
        model = _load(content)
        pieces = [
            (model.IdToPiece(number), model.GetScore(number), _kind(model, number))
            for number in range(model.GetPieceSize())
        ]
        if not all(math.isfinite(score) for _, score, _ in pieces):
            raise RuntimeError("a score is NaN or Inf")
        probes = plain = encode_probes(model.encode)
        if spec.rewrites:
            plain = encode_probes(_load(without_rewriting(content)).encode)
    except OSError as error:
        raise TokenizerError(
            f"{path}: {error.strerror or error}", hint="Check the file's permissions."
        ) from error
    except (RuntimeError, ValueError) as error:  # as SentencePiece reports damage
        raise TokenizerError(
            f"{path}: not a SentencePiece model ({error})",
            hint=f"{FETCH} If tokenizer.json is the checkpoint's tokenizer, take this file away.",
        ) from error
    return _Model(pieces, spec, plain, sum(map(operator.ne, probes, plain)))


def _load(content: bytes) -> SentencePieceProcessor:
    from sentencepiece import SentencePieceProcessor

    model = SentencePieceProcessor()
    if not model.LoadFromSerializedProto(content):
        raise RuntimeError("it does not load")
    return model


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


def _mark_user_defined(table: _Table, spec: ModelSpec) -> None:
    """Let llama.cpp look for pieces like ``<|im_start|>``, which no merging of others makes.

    Those that merging makes as well (digits, runs of spaces) stay normal: around one that it looks
    for, llama.cpp adds spaces.
    """
    ids = {text: number for number, text in enumerate(table.tokens)}
    for number in spec.user_defined:
        text = table.tokens[number]
        if encode(text, ids, table.scores) != [number]:
            score, kind = table.scores[number], gguf.TokenType.USER_DEFINED
            table.set(number, user_defined(text), score, kind)


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
    if value < 0 or isinstance(number, bool):
        raise ValueError(f"token id {number!r}")
    return value
