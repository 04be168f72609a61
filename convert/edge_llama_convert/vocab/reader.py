"""Which of a checkpoint's tokenizer files counts, and who reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import TokenizerError, UnsupportedError
from ..fileio import check_regular, check_text
from ..process import release_memory
from .bpe import Behaviour, observe, read_bpe
from .pretokenizer import check_name
from .sentencepiece import read_sentencepiece
from .sentencepiece_json import read_sentencepiece_json
from .special import FETCH
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from ..checkpoint import Checkpoint

#: What transformers or Mistral's own library could make a tokenizer from.
_OTHER_FILES = ("tekken.json", "vocab.json", "merges.txt", "tokenizer.tiktoken", "spiece.model")


def read_vocabulary(
    checkpoint: Checkpoint, vocab_size: int, *, pre: str | None = None
) -> Vocabulary:
    """Read ``tokenizer.model`` if the checkpoint has one, else ``tokenizer.json``.

    ``vocab_size`` is the number of rows of the embedding. ``pre`` is llama.cpp's name for the
    way a byte-level BPE splits text; by default it is found out.

    Raises:
        TokenizerError: neither file, a damaged one, or one larger than the embedding.
        UnsupportedError: another kind of tokenizer, an unknown pre-tokenizer, or ``pre`` for a
            tokenizer that has none.
    """
    if pre is not None:
        check_name(pre)
    vocabulary = _read(checkpoint, vocab_size, pre)
    vocabulary.check_texts(checkpoint.path)
    return vocabulary


def _read(checkpoint: Checkpoint, vocab_size: int, pre: str | None) -> Vocabulary:
    model = checkpoint.path / "tokenizer.model"
    if model.is_file():
        check_regular(model)
        _refuse_pre(model, pre)
        return read_sentencepiece(checkpoint, vocab_size)
    path = checkpoint.path / "tokenizer.json"
    if not path.is_file():
        raise TokenizerError(
            f"{path}: missing, and no tokenizer.model", hint=_instead(checkpoint.path)
        )
    check_regular(path)
    check_text(path)
    behaviour = _observe(checkpoint, path, vocab_size, pre)
    if isinstance(behaviour, Vocabulary):
        return behaviour
    release_memory()
    return read_bpe(checkpoint, behaviour, vocab_size)


def _observe(
    checkpoint: Checkpoint, path: Path, vocab_size: int, pre: str | None
) -> Behaviour | Vocabulary:
    """Load the tokenizer; it is gone again when this returns."""
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
        _refuse_pre(path, pre)
        return read_sentencepiece_json(checkpoint, tokenizer, vocab_size)
    return observe(tokenizer, path, pre=pre)


def _instead(folder: Path) -> str:
    """Return what to do in a folder with other tokenizer files, or with none."""
    others = [name for name in _OTHER_FILES if (folder / name).is_file()]
    if not others:
        return FETCH
    return (
        f"{' and '.join(others)} cannot be read. Get tokenizer.json of the same model, or write it "
        "where transformers is installed: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
    )


def _refuse_pre(path: Path, pre: str | None) -> None:
    if pre is not None:
        raise UnsupportedError(
            f"{path}: a SentencePiece tokenizer does not split text before merging, so --pre {pre} "
            "has no meaning",
            hint="Leave --pre out; it is for byte-level BPE only.",
        )
