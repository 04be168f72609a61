"""Rules of llama.cpp's tokenizers: what they assert, or throw where nobody catches it.

A C++ exception while text is tokenised ends the process, so whatever text could provoke one must be
impossible from the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..header.strings import StringArray

if TYPE_CHECKING:
    from ..header.keys import Keys

#: What some keys hold instead of an id.
_NONE = 2**32 - 1
_BYTE = 6  # the token type


@dataclass(frozen=True)
class _Tokenizer:
    """The special ids that a tokenizer has without being told, and which of them it inserts."""

    bos: int | None = None
    eos: int | None = None
    unknown: int | None = None
    separator: int | None = None
    adds_bos: bool = False
    adds_eos: bool = False
    needs: tuple[str, ...] = ()


#: By ``tokenizer.ggml.model``. Byte-level BPE adds BOS depending on its pre-tokenizer.
_TOKENIZERS = {
    "llama": _Tokenizer(bos=1, eos=2, unknown=0, adds_bos=True),
    "bert": _Tokenizer(bos=101, unknown=100, separator=102, needs=("bos", "unknown", "separator")),
    "gpt2": _Tokenizer(bos=11, eos=11, adds_bos=True),
    "hybriddna": _Tokenizer(bos=11, eos=11, adds_bos=True),
    "whitespace": _Tokenizer(bos=11, eos=11, adds_bos=True),
    "gemma4": _Tokenizer(needs=("bos",)),
    "t5": _Tokenizer(eos=1, unknown=2, adds_eos=True, needs=("unknown",)),
    "plamo2": _Tokenizer(bos=1, eos=2, unknown=0),
}


def check_tokenizer(keys: Keys, tokens: StringArray) -> None:
    """Check that the tokenizer the file names can handle every text."""
    model = keys.text("tokenizer.ggml.model")
    if model in {"none", "no_vocab"}:
        keys.fail("it holds no tokenizer", hint="Its text cannot be read without one; use another.")
    _check_ids(keys, _TOKENIZERS.get(model, _Tokenizer()), len(tokens))
    if model in {"llama", "plamo2"}:
        _check_byte_tokens(keys, tokens, plain=model == "llama")
    if model in {"rwkv", "t5"} and int(tokens.lengths.max()) > 512:
        keys.fail("a token has more than 512 bytes")  # a trie that recurses for each of them
    _check_byte_types(keys, tokens, model)
    if model in {"gpt2", "hybriddna", "whitespace", "gemma4"}:
        _check_merges(keys)
    if model == "rwkv":
        _check_rwkv(keys, tokens)
    if model == "t5":
        _check_charsmap(keys)


def _check_ids(keys: Keys, tokenizer: _Tokenizer, count: int) -> None:
    """Check that special ids that will be used are in the vocabulary; llama.cpp asserts it."""
    defaults = (
        ("bos", "bos", tokenizer.bos),
        ("eos", "eos", tokenizer.eos),
        ("unknown", "unknown", tokenizer.unknown),
        ("separator", "seperator", tokenizer.separator),  # llama.cpp's spelling
    )
    ids = {}
    for name, spelling, default in defaults:
        key = f"tokenizer.ggml.{spelling}_token_id"
        given = keys.count(key, _NONE)
        if given < count:
            ids[name] = given
        elif given != _NONE and name in {"bos", "eos"} and keys.architecture == "llama":
            keys.fail(f"key {key} = {given:,} is not in the vocabulary of {count:,}")
        elif default is not None and default < count:
            ids[name] = default
    needs = [*tokenizer.needs]
    for name, by_default in (("bos", tokenizer.adds_bos), ("eos", tokenizer.adds_eos)):
        if keys.flag(f"tokenizer.ggml.add_{name}_token", default=by_default):
            needs.append(name)
    for name in needs:
        if name not in ids:
            keys.fail(f"its tokenizer inserts a token ({name}) that the file does not name")


def _check_byte_tokens(keys: Keys, tokens: StringArray, *, plain: bool) -> None:
    """Every byte needs a token, ``<0x0A>`` or (``plain``) the character itself.

    Text that no other token covers is written in them.
    """
    found = tokens.select((tokens.lengths == 6) & tokens.begin_with(ord("<")))
    single = tokens.select(tokens.lengths == 1) if plain else set()
    for byte in range(256):
        if b"<0x%02X>" % byte not in found and bytes([byte]) not in single:
            keys.fail(
                f"its tokenizer has no token for the byte 0x{byte:02X} (<0x{byte:02X}>)",
                hint="Convert the checkpoint again; text with other characters would be fatal.",
            )


def _check_byte_types(keys: Keys, tokens: StringArray, model: str) -> None:
    """Check that tokens of the type "byte" look like ``<0x0A>``."""
    types = keys.header.arrays.get("tokenizer.ggml.token_type")
    if not isinstance(types, np.ndarray):
        return
    if (tokens.lengths[types == _BYTE] < (2**31 if model == "bert" else 3)).any():
        keys.fail("its tokenizer has tokens of the type for bytes that stand for none")


def _check_merges(keys: Keys) -> None:
    name = "tokenizer.ggml.merges"
    # Kimi K2's pre-tokenizer is the one that goes without.
    if keys.kind(name) != "arr[str]" and keys.text("tokenizer.ggml.pre", "") != "kimi-k2":
        keys.fail(f"key {name} is {keys.kind(name) or 'missing'}, not arr[str]")


def _check_rwkv(keys: Keys, tokens: StringArray) -> None:
    r"""Every byte needs a token, escaped like ``\n`` or ``\x00``; else the tokenizer loops."""
    escapes = {b"\\t": 9, b"\\n": 10, b"\\r": 13}
    digits = b"0123456789abcdef"
    covered = set()
    for text in tokens.select((tokens.lengths > 0) & (tokens.lengths <= 4)):
        if len(text) == 1 and text != b"\\":
            covered.add(text[0])
        elif len(text) == 2 and text[:1] == b"\\" and text[1:] != b"x":
            covered.add(escapes.get(text, text[1]))
        elif len(text) == 4 and text[:2] == b"\\x" and text[2] in digits and text[3] in digits:
            covered.add(16 * digits.index(text[2]) + digits.index(text[3]))
    if len(covered) < 256:
        keys.fail(f"its tokenizer has tokens for only {len(covered)} of the 256 bytes")


def _check_charsmap(keys: Keys) -> None:
    """Check the normaliser's table (``llm_tokenizer_ugm``): every step must stay inside it.

    A number of entries of 4 bytes after the blob's size in bytes: ``base`` in the bits from 10 on
    (shifted by 8 more if bit 9 is set), bit 31 marks an entry that is the offset of a replacement,
    a text that ends with a zero byte.
    """
    name = "tokenizer.ggml.precompiled_charsmap"
    if not keys.has(name):
        return
    if keys.kind(name) not in {"arr[u8]", "arr[i8]"}:
        keys.fail(f"key {name} is {keys.kind(name)}, not arr[u8]")
    values = keys.header.arrays[name]
    assert not isinstance(values, StringArray)  # noqa: S101 - its kind says so
    data = values.tobytes()
    size = int.from_bytes(data[:4], "little")
    if size < 4 or size % 4 or 4 + size >= len(data) or data[-1]:
        keys.fail(f"key {name} is damaged")
    entries = np.frombuffer(data, "<u4", size // 4, 4)
    base = (entries >> 10) << ((entries & 512) >> 6)
    place = np.arange(len(entries), dtype=np.uint32)
    steps = entries < 2**31
    # From an entry the table is entered at base ^ any byte: all within one block of 256.
    if ((place ^ base)[steps] | 255).max(initial=0) >= len(entries) or (
        (entries[~steps] & 0x7FFFFFFF).max(initial=0) >= len(data) - 4 - size
    ):
        keys.fail(f"key {name} is damaged")
