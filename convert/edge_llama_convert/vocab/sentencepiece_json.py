"""tokenizer.json with SentencePiece-style BPE (byte_fallback; Llama 2, Mistral) -> Vocabulary.

Such a file has merges where a tokenizer.model has scores. convert_hf_to_gguf.py writes -1000 for
every score, so that llama.cpp merges from left to right and tokenises wrongly; here the scores
follow the merges, and a conversion that would still tokenise otherwise is refused.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import gguf

from ..errors import TokenizerError, UnsupportedError
from .added import ADDED_SCORE, PADDING_SCORE, looks_special, user_defined
from .bpe_scores import check_byte_tokens, encode, scores_of
from .pretokenizer import PROBE
from .probe import encode_plainly, encode_probes
from .special import FETCH, bos_override, extra_ids, read_special, space_prefix
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tokenizers import Tokenizer

    from ..checkpoint import Checkpoint

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def read_sentencepiece_json(
    checkpoint: Checkpoint, tokenizer: Tokenizer, vocab_size: int
) -> Vocabulary:
    """Turn ``tokenizer``, the content of tokenizer.json, into a vocabulary of ``vocab_size``.

    Raises:
        TokenizerError: the file is damaged, or has ids beyond the embedding's rows.
        UnsupportedError: llama.cpp would tokenise a probe text otherwise than ``tokenizer``.
    """
    path = checkpoint.path / "tokenizer.json"
    vocab: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    largest = max(vocab, key=vocab.__getitem__, default="")
    if vocab.get(largest, -1) >= vocab_size:
        raise TokenizerError(
            f"{path}: token id {vocab[largest]} ({largest!r}) is beyond the embedding's "
            f"{vocab_size} rows",
            hint="Tokens were added without resizing the embedding, or the files are of "
            "different checkpoints.",
        )
    document = checkpoint.optional_json("tokenizer.json")
    tokens, scores, types = _table(tokenizer, vocab, _merges(path, document), vocab_size)
    prefix = _adds_space(tokenizer)
    _check(tokenizer, path, tokens, scores, prefix=prefix)
    special = read_special(checkpoint, document, vocab_size)
    # llama.cpp adds a space unless told otherwise; the key is written when the files speak of it.
    silent = prefix and space_prefix(checkpoint) is None
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=tokens,
        types=[int(kind) for kind in types],
        scores=scores,
        special=special,
        probes=encode_probes(partial(encode_plainly, tokenizer)),
        add_bos=bos_override(vocab_size),
        add_space_prefix=None if silent else prefix,
        extra_ids=extra_ids(checkpoint, special, tokens, types),
    )


def _merges(path: Path, document: Mapping[str, Any]) -> list[tuple[str, str]]:
    try:
        merges = document["model"]["merges"]
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
        result = [(str(left), str(right)) for left, right in pairs]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TokenizerError(f"{path}: the merges are damaged ({error})", hint=FETCH) from error
    if not result:
        raise TokenizerError(f"{path}: no merges", hint=FETCH)
    return result


def _table(
    tokenizer: Tokenizer, vocab: dict[str, int], merges: list[tuple[str, str]], size: int
) -> tuple[list[str], list[float], list[gguf.TokenType]]:
    by_id = {number: text for text, number in vocab.items()}
    tokens = [by_id.get(number, f"[PAD{number}]") for number in range(size)]
    scores = scores_of(tokens, merges)
    types = [gguf.TokenType.NORMAL] * size
    added = tokenizer.get_added_tokens_decoder()
    for number, text in enumerate(tokens):
        if number not in by_id:
            scores[number], types[number] = PADDING_SCORE, gguf.TokenType.UNUSED
        elif number in added:
            scores[number] = ADDED_SCORE
            if added[number].special or looks_special(text):
                types[number] = gguf.TokenType.CONTROL
            else:
                tokens[number], types[number] = user_defined(text), gguf.TokenType.USER_DEFINED
        elif _BYTE.fullmatch(text):
            types[number] = gguf.TokenType.BYTE
        elif text == tokenizer.model.unk_token:
            types[number] = gguf.TokenType.UNKNOWN
    return tokens, scores, types


def _adds_space(tokenizer: Tokenizer) -> bool:
    return tokenizer.encode("a", add_special_tokens=False).tokens[:1] != ["a"]


def _check(
    tokenizer: Tokenizer, path: Path, tokens: list[str], scores: list[float], *, prefix: bool
) -> None:
    check_byte_tokens(tokens, path)
    ids = {text: number for number, text in enumerate(tokens)}
    text = (" " if prefix else "") + PROBE
    ours = encode(text.replace(" ", "\u2581"), ids, scores)
    if ours != encode_plainly(tokenizer, PROBE):
        raise UnsupportedError(
            f"{path}: llama.cpp's SentencePiece tokenizer would split text otherwise",
            hint="The tokenizer normalises or pre-splits text in a way GGUF cannot say. If the "
            "checkpoint also exists with a tokenizer.model, convert that.",
        )
