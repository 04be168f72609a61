"""tokenizer.json with byte-level BPE (Llama 3, SmolLM2 and others) -> Vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf

from ..errors import TokenizerError
from .added import looks_special, user_defined
from .pretokenizer import identify
from .special import FETCH, bos_override, extra_ids, read_special, space_prefix
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

    from ..checkpoint import Checkpoint


def read_bpe(
    checkpoint: Checkpoint, tokenizer: Tokenizer, vocab_size: int, *, pre: str | None
) -> Vocabulary:
    """Turn ``tokenizer``, the content of tokenizer.json, into a vocabulary of ``vocab_size``.

    ``pre`` is llama.cpp's name for the pre-tokenizer, None to find it out. Ids that the
    tokenizer leaves out are filled with unused tokens.

    Raises:
        TokenizerError: the file is damaged, or has ids beyond the embedding's rows.
        UnsupportedError: an unknown pre-tokenizer.
    """
    path = checkpoint.path / "tokenizer.json"
    tokens, types = _tokens(tokenizer, vocab_size, str(path))
    special = read_special(checkpoint, vocab_size, merges=True)
    if not special.merges:
        raise TokenizerError(f"{path}: no merges", hint=FETCH)
    return Vocabulary(
        model="gpt2",
        pre=pre or identify(tokenizer, path),
        tokens=tokens,
        types=types,
        special=special,
        add_bos=bos_override(vocab_size),
        add_space_prefix=space_prefix(checkpoint),
        extra_ids=extra_ids(checkpoint, special, tokens, types),
    )


def _tokens(tokenizer: Tokenizer, vocab_size: int, path: str) -> tuple[list[str], list[int]]:
    by_id = {number: text for text, number in tokenizer.get_vocab(with_added_tokens=True).items()}
    largest = max(by_id, default=-1)
    if largest >= vocab_size:
        raise TokenizerError(
            f"{path}: token id {largest} ({by_id[largest]!r}) is beyond the embedding's "
            f"{vocab_size} rows",
            hint="Tokens were added without resizing the embedding, or the files are of "
            "different checkpoints.",
        )
    added = tokenizer.get_added_tokens_decoder()
    tokens, types = [], []
    for number in range(vocab_size):
        text = by_id.get(number)
        kind = gguf.TokenType.NORMAL
        if text is None:
            text, kind = f"[PAD{number}]", gguf.TokenType.UNUSED
        elif number in added:
            text, kind = _added_token(tokenizer, text, added[number])
        tokens.append(text)
        types.append(int(kind))
    return tokens, types


def _added_token(tokenizer: Tokenizer, text: str, token: AddedToken) -> tuple[str, gguf.TokenType]:
    """Return text and type of a token outside the BPE model.

    llama.cpp looks for these in the raw text, so one that is matched before normalisation is
    stored as it comes back from encoding and decoding.
    """
    if not token.normalized:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        text = tokenizer.decode(ids, skip_special_tokens=False)
    if token.special or looks_special(text):
        return text, gguf.TokenType.CONTROL
    return user_defined(text), gguf.TokenType.USER_DEFINED
