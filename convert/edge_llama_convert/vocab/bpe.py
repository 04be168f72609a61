"""tokenizer.json with byte-level BPE (Llama 3, SmolLM2 and others) -> Vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf

from ..errors import TokenizerError, UnsupportedError
from .pretokenizer import identify
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

    from ..checkpoint import Checkpoint

_FETCH = "Download the tokenizer files of the same checkpoint again."

#: convert_hf_to_gguf.py turns BOS off for this vocabulary size (Granite, SmolLM2).
_SIZE_WITHOUT_BOS = 49152


def read_bpe(checkpoint: Checkpoint, vocab_size: int) -> Vocabulary:
    """Read the byte-level BPE tokenizer of ``checkpoint``.

    ``vocab_size`` is the number of rows of the embedding; ids that the tokenizer leaves out are
    filled with unused tokens.

    Raises:
        TokenizerError: no tokenizer.json, a damaged one, or one larger than the embedding.
        UnsupportedError: another kind of tokenizer, or an unknown pre-tokenizer.
    """
    path = checkpoint.path / "tokenizer.json"
    if not path.is_file():
        if (checkpoint.path / "tokenizer.model").is_file():
            raise UnsupportedError(
                f"{checkpoint.path}: only a SentencePiece tokenizer.model",
                hint="Supported so far is tokenizer.json with byte-level BPE.",
            )
        raise TokenizerError(f"{path}: missing", hint=_FETCH)
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises plain Exception
        raise TokenizerError(f"{path}: {error}", hint=_FETCH) from error
    _check_kind(checkpoint, tokenizer)
    tokens, types = _tokens(tokenizer, vocab_size, str(path))
    return Vocabulary(
        model="gpt2",
        pre=identify(tokenizer, path),
        tokens=tokens,
        types=types,
        special=_special(checkpoint, vocab_size),
        add_bos=False if vocab_size == _SIZE_WITHOUT_BOS else None,
    )


def _check_kind(checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    path = checkpoint.path / "tokenizer.json"
    kind = type(tokenizer.model).__name__
    if kind != "BPE":
        raise UnsupportedError(
            f"{path}: a {kind} tokenizer; supported is byte-level BPE",
            hint="This is no tokenizer of the LLaMA family.",
        )
    if tokenizer.model.byte_fallback:
        raise UnsupportedError(
            f"{path}: a SentencePiece-style BPE (byte_fallback); supported is byte-level BPE",
            hint="Llama 1 and 2 tokenizers are not supported yet.",
        )


def _special(checkpoint: Checkpoint, vocab_size: int) -> gguf.SpecialVocab:
    try:
        special = gguf.SpecialVocab(checkpoint.path, load_merges=True, n_vocab=vocab_size)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise TokenizerError(
            f"{checkpoint.path}: tokenizer.json or tokenizer_config.json is damaged ({error})",
            hint=_FETCH,
        ) from error
    if not special.merges:
        raise TokenizerError(f"{checkpoint.path / 'tokenizer.json'}: no merges", hint=_FETCH)
    return special


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
    if token.special or _looks_special(text):
        return text, gguf.TokenType.CONTROL
    return text.replace("\u2581", " "), gguf.TokenType.USER_DEFINED


def _looks_special(text: str) -> bool:
    """Recognise control tokens that checkpoints forgot to mark (as convert_hf_to_gguf.py does)."""
    return (
        text in {"<pad>", "<mask>", "<2mass>", "[@BOS@]"}
        or (text.startswith("<|") and text.endswith("|>"))
        or (text.startswith("<\uff5c") and text.endswith("\uff5c>"))
        or (text.startswith("<unused") and text.endswith(">"))
    )
