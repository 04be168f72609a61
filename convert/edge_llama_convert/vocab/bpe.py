"""tokenizer.json with byte-level BPE (Llama 3, SmolLM2 and others) -> Vocabulary.

The file is read twice, one after the other: by the ``tokenizers`` library, which tells what only
running the tokenizer can tell, and as plain JSON for what GGUF stores of it. Both together would
take the most memory of a whole conversion.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gguf

from ..errors import TokenizerError
from .added import looks_special, user_defined
from .pretokenizer import identify
from .probe import encode_plainly, encode_probes
from .special import FETCH, bos_override, extra_ids, read_special, space_prefix
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tokenizers import AddedToken, Tokenizer

    from ..checkpoint import Checkpoint


@dataclass(frozen=True)
class Behaviour:
    """What running a byte-level BPE tokenizer tells.

    Attributes:
        pre: llama.cpp's name for the way it splits text.
        added: text and type of the tokens outside the BPE model, by id.
        probes: its ids of :data:`probe.PROBES`.
    """

    pre: str
    added: Mapping[int, tuple[str, gguf.TokenType]]
    probes: tuple[tuple[int, ...], ...]


def observe(tokenizer: Tokenizer, path: Path, *, pre: str | None) -> Behaviour:
    """Run ``tokenizer``, the content of ``path``, on probe texts and on its added tokens.

    ``pre`` is llama.cpp's name for the pre-tokenizer, None to find it out.

    Raises:
        UnsupportedError: an unknown pre-tokenizer.
    """
    return Behaviour(
        pre=pre or identify(tokenizer, path),
        added={
            number: _added_token(tokenizer, token)
            for number, token in tokenizer.get_added_tokens_decoder().items()
        },
        probes=encode_probes(partial(encode_plainly, tokenizer)),
    )


def read_bpe(checkpoint: Checkpoint, behaviour: Behaviour, vocab_size: int) -> Vocabulary:
    """Turn tokenizer.json into a vocabulary of ``vocab_size``.

    Ids that the tokenizer leaves out are filled with unused tokens.

    Raises:
        TokenizerError: the file is damaged, or has ids beyond the embedding's rows.
    """
    path = checkpoint.path / "tokenizer.json"
    document = checkpoint.optional_json(path.name)
    try:
        tokens, types = _tokens(document["model"]["vocab"], behaviour, vocab_size, path)
        merges = _merges(document["model"]["merges"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TokenizerError(f"{path}: damaged ({error})", hint=FETCH) from error
    if not merges:
        raise TokenizerError(f"{path}: no merges", hint=FETCH)
    special = read_special(checkpoint, document, vocab_size)
    return Vocabulary(
        model="gpt2",
        pre=behaviour.pre,
        tokens=tokens,
        types=types,
        special=special,
        probes=behaviour.probes,
        merges=merges,
        add_bos=bos_override(vocab_size),
        add_space_prefix=space_prefix(checkpoint),
        extra_ids=extra_ids(checkpoint, special, tokens, types),
    )


def _merges(merges: list[Any]) -> list[str]:
    """Return merges with a space between the two tokens; spaces within become U+0120."""
    if merges and isinstance(merges[0], str):
        return merges
    joined = [f"{left} {right}" for left, right in merges]
    if "".join(joined).count(" ") != len(joined):  # each has one at least
        joined = [f"{left.replace(' ', 'Ġ')} {right.replace(' ', 'Ġ')}" for left, right in merges]
    return joined


def _tokens(
    vocab: Mapping[str, int], behaviour: Behaviour, vocab_size: int, path: Path
) -> tuple[list[str], list[int]]:
    tokens: list[str | None] = [None] * vocab_size
    types = [int(gguf.TokenType.NORMAL)] * vocab_size
    largest = max([*vocab.values(), *behaviour.added], default=-1)
    if largest >= vocab_size:
        texts = [text for text, number in vocab.items() if number == largest]
        text = texts[0] if texts else behaviour.added[largest][0]
        raise TokenizerError(
            f"{path}: token id {largest} ({text!r}) is beyond the embedding's {vocab_size} rows",
            hint="Tokens were added without resizing the embedding, or the files are of "
            "different checkpoints.",
        )
    for text, number in vocab.items():
        if tokens[number] is not None:
            raise ValueError(f"{tokens[number]!r} and {text!r} both have the id {number}")
        tokens[number] = text
    for number, (text, kind) in behaviour.added.items():
        tokens[number], types[number] = text, int(kind)
    filled = []
    for number, known in enumerate(tokens):
        if known is None:
            types[number] = int(gguf.TokenType.UNUSED)
        filled.append(f"[PAD{number}]" if known is None else known)
    return filled, types


def _added_token(tokenizer: Tokenizer, token: AddedToken) -> tuple[str, gguf.TokenType]:
    """Return text and type of a token outside the BPE model.

    llama.cpp looks for these in the raw text, so one that is matched before normalisation is
    stored as it comes back from encoding and decoding.
    """
    text = token.content
    if not token.normalized:
        ids = encode_plainly(tokenizer, text)
        text = tokenizer.decode(ids, skip_special_tokens=False)
    if token.special or looks_special(text):
        return text, gguf.TokenType.CONTROL
    return user_defined(text), gguf.TokenType.USER_DEFINED
