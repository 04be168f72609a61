"""Rules for the vocabulary: arrays that belong together, tokens that differ, ids within it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..header.strings import StringArray
from .tokenizers import check_tokenizer

if TYPE_CHECKING:
    from ..header.keys import Keys

_TOKENS = "tokenizer.ggml.tokens"

#: Bytes of the longest token that is accepted; the longest known ones have some hundred.
_LONGEST = 2048
#: llama.cpp decodes byte-level tokens in time and space that grow with the square of their length
#: when they hold other characters; so lengths and squares are bounded, far above what models have.
_TEXT, _TEXT_PER_TOKEN = 2**20, 16
_SQUARES, _SQUARES_PER_TOKEN = 2**26, 256


def check_vocabulary(keys: Keys) -> None:
    """Check tokens, scores, types, merges and special ids."""
    tokens = keys.header.arrays[_TOKENS]
    assert isinstance(tokens, StringArray)  # noqa: S101 - the hyper-parameters' reader saw to it
    _check_lengths(keys, tokens)
    tokens = tokens.as_c()
    _check_numbers(keys, len(tokens))
    _check_unique(keys, tokens)
    _check_merges(keys, len(tokens))
    check_tokenizer(keys, tokens)


def _check_lengths(keys: Keys, tokens: StringArray) -> None:
    lengths, count = tokens.lengths, len(tokens)
    longest = int(lengths.max())
    if (
        longest > _LONGEST
        or int(lengths.sum()) > _TEXT + _TEXT_PER_TOKEN * count
        or int((lengths * lengths).sum()) > _SQUARES + _SQUARES_PER_TOKEN * count
    ):
        keys.fail(
            f"key {_TOKENS} holds {int(lengths.sum()):,} bytes in {count:,} tokens, the longest of "
            f"{longest:,}; no vocabulary has such tokens"
        )


def _check_merges(keys: Keys, n_tokens: int) -> None:
    """Bound the merges by the tokens; llama.cpp makes two strings of each."""
    name = "tokenizer.ggml.merges"
    merges = keys.header.arrays.get(name)
    if isinstance(merges, StringArray) and (
        len(merges) > 8 * n_tokens + 1024
        or int(merges.lengths.sum()) > 4 * (_TEXT + _TEXT_PER_TOKEN * n_tokens)
    ):
        keys.fail(f"key {name} is many times as long as {_TOKENS}")


def _check_numbers(keys: Keys, count: int) -> None:
    """Scores and types: of a type that llama.cpp reads, and one for each token."""
    for name, kinds in (
        ("tokenizer.ggml.scores", ("arr[f32]", "arr[i32]")),
        ("tokenizer.ggml.token_type", ("arr[i32]",)),
    ):
        if not keys.has(name):
            continue
        if keys.kind(name) not in kinds:
            keys.fail(f"key {name} is {keys.kind(name)}, not {' or '.join(kinds)}")
        values = keys.header.arrays[name]
        if len(values) != count:
            keys.fail(f"key {name} has {len(values):,} items, but there are {count:,} tokens")
        assert not isinstance(values, StringArray)  # noqa: S101 - its kind says so
        if values.dtype.kind == "f" and np.isnan(values).any():
            keys.fail(f"key {name} holds numbers that are none (NaN)")
        if name.endswith("type") and (values.min() < 0 or values.max() > 6):
            keys.fail(f"key {name} holds types other than 0 to 6")


def _check_unique(keys: Keys, tokens: StringArray) -> None:
    """Tokens must differ: llama.cpp asserts it. An empty one it calls ``[EMPTY_id]``."""
    twice = tokens.first_duplicate()
    if twice is None:
        empty = np.flatnonzero(tokens.lengths == 0)
        if not len(empty):
            return
        marked = tokens.select(tokens.begin_with(ord("[")))
        clash = next((i for i in empty.tolist() if b"[EMPTY_%d]" % i in marked), None)
        if clash is None:
            return
        twice = (clash, clash)
    keys.fail(
        f"key {_TOKENS}: tokens {twice[0]} and {twice[1]} are the same text "
        f"{tokens[twice[1]][:40]!r}"
    )
