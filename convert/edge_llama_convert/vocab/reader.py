"""Which of a checkpoint's tokenizer files counts, and who reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import TokenizerError, UnsupportedError
from .bpe import read_bpe
from .pretokenizer import check_name
from .sentencepiece import read_sentencepiece
from .sentencepiece_json import read_sentencepiece_json
from .special import FETCH

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint
    from .vocabulary import Vocabulary


def read_vocabulary(
    checkpoint: Checkpoint, vocab_size: int, *, pre: str | None = None
) -> Vocabulary:
    """Read ``tokenizer.model`` if the checkpoint has one, else ``tokenizer.json``.

    ``vocab_size`` is the number of rows of the embedding. ``pre`` is llama.cpp's name for the
    way a byte-level BPE splits text; by default it is found out.

    Raises:
        TokenizerError: neither file, a damaged one, or one larger than the embedding.
        UnsupportedError: another kind of tokenizer, or an unknown pre-tokenizer.
    """
    if pre is not None:
        check_name(pre)
    if (checkpoint.path / "tokenizer.model").is_file():
        return read_sentencepiece(checkpoint, vocab_size)
    path = checkpoint.path / "tokenizer.json"
    if not path.is_file():
        raise TokenizerError(f"{path}: missing, and no tokenizer.model", hint=FETCH)
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises plain Exception
        raise TokenizerError(f"{path}: {error}", hint=FETCH) from error
    kind = type(tokenizer.model).__name__
    if kind != "BPE":
        raise UnsupportedError(
            f"{path}: a {kind} tokenizer; supported is BPE, byte-level or SentencePiece's",
            hint="This is no tokenizer of the LLaMA family.",
        )
    if tokenizer.model.byte_fallback:
        return read_sentencepiece_json(checkpoint, tokenizer, vocab_size)
    return read_bpe(checkpoint, tokenizer, vocab_size, pre=pre)
