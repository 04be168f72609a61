"""Seeded damage to a GGUF: what chance, a broken converter or an attacker does to a file.

``data/hostile.json`` has the names and numbers that are tried.
"""

from __future__ import annotations

import json
import math
import random
import struct
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ggufs
import smallmodels

from edge_llama.header.ggml_types import TENSOR_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from ggufs import GGUF

    Rng = random.Random

TRY: dict[str, list[Any]] = json.loads(
    (Path(__file__).parent / "data" / "hostile.json").read_text(encoding="utf-8")
)
_REALS = [0.0, -0.0, 1.0, -1.0, 1e-5, 1e-38, 1e38, 2.0, math.nan, math.inf, -math.inf]
_TOKENS = "tokenizer.ggml.tokens"


def mutate(model: GGUF, seed: int) -> bytes:
    """Return a damaged copy of ``model``; the same seed does the same damage."""
    rng = random.Random(seed)
    damaged = model.copy()
    for damage in rng.choices(_STRUCTURED, k=rng.choice((1, 1, 1, 2, 3))):
        if damaged.keys and damaged.tensors:
            damage(damaged, rng)
    data = bytearray(damaged.to_bytes())
    if rng.random() < 0.3:
        rng.choice(_RAW)(data, damaged, rng)
    return bytes(data)


# Hyper-parameters


def _near(rng: Rng, value: int) -> int:
    near = (value + 1, value - 1, value * 2, value // 2)
    return max(0, int(rng.choice((*near, *TRY["counts"][-9:]))))


def _current(model: GGUF, name: str) -> int:
    key = model.find(name)
    if key is None or key.number != ggufs.NUMBERS["u32"]:
        return 1
    return int(struct.unpack("<I", key.raw)[0])


def _count(model: GGUF, rng: Rng) -> None:
    names = TRY["count_keys"]
    name = "llama." + rng.choice(names[: rng.choice((8, len(names)))])
    value = rng.choice((_near(rng, _current(model, name)), rng.choice(TRY["counts"])))
    model.set(name, "u32", value % 2**32)


def _heads(model: GGUF, rng: Rng) -> None:
    """Another number of heads that the width allows, with everything else to match or not."""
    number = rng.choice((1, 2, 4, 8, 16, 32, 64))
    model.set("llama.attention.head_count", "u32", number)
    model.set("llama.attention.head_count_kv", "u32", rng.choice((1, 2, number, number // 2)))
    if rng.random() < 0.8:
        model.set("llama.rope.dimension_count", "u32", smallmodels.WIDTH // number)


def _layers(model: GGUF, rng: Rng) -> None:
    """A value per layer; too many or too few at times."""
    name = "llama." + rng.choice(TRY["layer_keys"])
    item = rng.choice(("u32", "u32", "i32", "u64", "str", "bool"))
    values = [
        _cast(item, rng.choice((_current(model, name), rng.choice(TRY["counts"]))))
        for _ in range(rng.choice((0, 1, 2, 2, 2, 2, 3, 600)))
    ]
    model.set(name, f"arr[{item}]", values)


def _cast(kind: str, value: int) -> Any:
    """The number as a value of that type."""
    casts: dict[str, Callable[[int], Any]] = {
        "str": str,
        "bool": lambda count: count % 2 == 0,
        "i32": lambda count: count - 2**32 if count >= 2**31 else count,
        "f32": float,
        "f64": float,
        **dict.fromkeys(("u8", "i8", "u16", "i16"), lambda count: count % 128),
    }
    return casts.get(kind, int)(value)


def _real(model: GGUF, rng: Rng) -> None:
    model.set("llama." + rng.choice(TRY["real_keys"]), "f32", rng.choice(_REALS))


def _rope(model: GGUF, rng: Rng) -> None:
    model.set("llama.rope.scaling.type", "str", rng.choice(TRY["rope_scalings"]))
    if rng.random() < 0.5:
        model.set("llama.rope.scaling.factor", "f32", rng.choice((*_REALS, 4.0)))
        context = rng.choice((0, 1, 512, 2**32 - 1))
        model.set("llama.rope.scaling.original_context_length", "u32", context)


def _architecture(model: GGUF, rng: Rng) -> None:
    name = rng.choice(TRY["architectures"])
    model.set("general.architecture", "str", name)
    if rng.random() < 0.7:
        for key in model.keys:
            if key.name.startswith(b"llama."):
                key.name = name.encode() + key.name[5:]


# Keys


def _retype(model: GGUF, rng: Rng) -> None:
    name = rng.choice(model.keys).name.decode("utf-8", errors="ignore")
    item = rng.choice([kind for kind in ggufs.NUMBERS if kind != "arr"])
    value = _cast(item, rng.choice(TRY["counts"]) % 2**31)
    if rng.random() < 0.2:
        model.set(name, f"arr[{item}]", [value])
    else:
        model.set(name, item, value)


def _key_number(model: GGUF, rng: Rng) -> None:
    rng.choice(model.keys).number = rng.choice((*range(14), 2**31, 2**32 - 1))


def _drop_key(model: GGUF, rng: Rng) -> None:
    model.keys.pop(rng.randrange(len(model.keys)))


def _repeat_key(model: GGUF, rng: Rng) -> None:
    key = rng.choice(model.keys)
    model.keys.insert(rng.randrange(len(model.keys)), ggufs.Key(key.name, key.number, key.raw))


def _rename_key(model: GGUF, rng: Rng) -> None:
    key = rng.choice(model.keys)
    key.name = rng.choice((b"", key.name + b"\0", key.name + b"x", b"\xff\n", b"x" * 100_000))


def _shuffle_keys(model: GGUF, rng: Rng) -> None:
    rng.shuffle(model.keys)


def _flag(model: GGUF, rng: Rng) -> None:
    model.set(rng.choice(TRY["flags"]), "bool", rng.random() < 0.7)


def _text(model: GGUF, rng: Rng) -> None:
    name = rng.choice(("general.name", "tokenizer.chat_template", "general.type", "general.tags"))
    model.set(name, "str", rng.choice((*TRY["texts"], b"\xff\xfe\0x", "x" * 20_000)))


def _split(model: GGUF, rng: Rng) -> None:
    for name, kind in (("no", "u16"), ("count", "u16"), ("tensors.count", "i32")):
        if rng.random() < 0.8:
            used = rng.choice((kind, kind, kind, "u32", "str"))
            value = rng.choice((0, 1, 2, 3, len(model.tensors), 65535))
            model.set(f"split.{name}", used, str(value) if used == "str" else value)


def _alignment(model: GGUF, rng: Rng) -> None:
    value = rng.choice((0, 1, 2, 4, 8, 16, 31, 32, 33, 64, 4096, 2**20, 2**30))
    model.set("general.alignment", rng.choice(("u32", "u32", "u32", "u64", "i32")), value)
    if value.bit_count() == 1 and value <= 4096 and rng.random() < 0.8:
        model.alignment = value


def _junk(model: GGUF, rng: Rng) -> None:
    length = rng.choice((0, 1, 1000, 100_000))
    model.set("junk", *rng.choice((("arr[str]", [""] * length), ("arr[f64]", [0.0] * length))))


def _counts(model: GGUF, rng: Rng) -> None:
    sizes = len(model.tensors), len(model.keys)
    at = rng.randrange(2)
    huge = (2**31, 2**32, 2**48, 2**61, 2**63, 2**64 - 1)
    claim = max(0, rng.choice((0, sizes[at] - 1, sizes[at] + 1, *huge)))
    model.claims = (claim, None) if at == 0 else (None, claim)


def _version(model: GGUF, rng: Rng) -> None:
    model.version = rng.choice((0, 1, 2, 3, 4, 3 << 24, 2**32 - 1))


# Tokenizer


def _tokenizer(model: GGUF, rng: Rng) -> None:
    model.set("tokenizer.ggml.model", "str", rng.choice(TRY["tokenizers"]))
    if rng.random() < 0.5:
        model.set("tokenizer.ggml.pre", "str", rng.choice(TRY["pre_tokenizers"]))
    if rng.random() < 0.3:
        charsmap = rng.randbytes(rng.choice((0, 3, 4, 5, 64, 2048)))
        size = struct.pack("<I", rng.choice((0, 4, 60, 1024, 2**32 - 1)))
        model.set("tokenizer.ggml.precompiled_charsmap", "arr[u8]", [*(size + charsmap)])


def _one_token(model: GGUF, rng: Rng) -> None:
    """One text of the vocabulary is another one, or not there, or too much."""
    texts = model.strings(_TOKENS) or [b"a", b"b"]
    at = rng.randrange(len(texts))
    long = b"x" * rng.choice((255, 256, 257, 1000, 2048, 2049, 100_000))
    bad = (b"\xff", b"\xf7\xbf\xbf\xbf", b"\xe4\xb8", b"[EMPTY_0]", texts[at - 1] + b"\0c")
    texts[at : at + 1] = rng.choice(
        ([texts[at - 1]], [b""], [], [texts[at], b"more"], [long], [rng.choice(bad)])
    )
    if rng.random() < 0.2:
        texts[0] = b""
    model.set(_TOKENS, "arr[str]", texts)


def _all_tokens(model: GGUF, rng: Rng) -> None:
    texts = model.strings(_TOKENS)
    wide = [("\u4e2d" * 300 + str(at)).encode() for at in range(len(texts))]
    few = texts[: rng.choice((0, 1, 5, 20))]
    shuffled = rng.sample(texts, len(texts))
    model.set(_TOKENS, "arr[str]", rng.choice((shuffled, wide, [b""] * len(texts), few)))


def _length(model: GGUF, rng: Rng) -> int:
    n_vocab = len(model.strings(_TOKENS))
    return rng.choice((n_vocab, n_vocab, n_vocab, n_vocab - 1, n_vocab + 1, 0, 1)) % 2**20


def _types(model: GGUF, rng: Rng) -> None:
    some = rng.choice(((1,), (3,), (4,), (6,), (0, 1, 2, 3, 4, 5, 6), (1, 7, 100)))
    kind = rng.choice(("arr[i32]", "arr[i32]", "arr[i32]", "arr[u32]", "arr[f32]", "arr[u8]"))
    model.set("tokenizer.ggml.token_type", kind, rng.choices(some, k=_length(model, rng)))


def _scores(model: GGUF, rng: Rng) -> None:
    kinds: dict[str, list[Any]] = {
        "f32": [*_REALS[:6], *(_REALS if rng.random() < 0.5 else ())],
        "i32": [-(2**31), -1, 0, 1, 2**31 - 1],
        "f64": _REALS,
        "str": ["", "1"],
    }
    kind = rng.choice(("f32", "f32", "i32", "f64", "str"))
    values = rng.choices(kinds[kind], k=_length(model, rng))
    model.set("tokenizer.ggml.scores", f"arr[{kind}]", values)


def _merges(model: GGUF, rng: Rng) -> None:
    choices: list[list[Any]] = [
        [],
        [""] * 300,
        ["a b"] * 5000,
        [" a", "b ", " ", "ab", "a  b", b"\xff \xff", b"\0 \0"],
        ["a b", "a b c", "x" * 100_000 + " y"],
    ]
    model.set("tokenizer.ggml.merges", "arr[str]", rng.choice(choices))


def _special_ids(model: GGUF, rng: Rng) -> None:
    for name in rng.sample(TRY["special_ids"], rng.randrange(1, 4)):
        model.set(f"tokenizer.ggml.{name}_token_id", "u32", rng.choice(TRY["counts"]))
    if rng.random() < 0.5:
        _flag(model, rng)


def _drop_tokenizer(model: GGUF, rng: Rng) -> None:
    for _ in range(rng.randrange(1, 4)):
        names = [key.name for key in model.keys if key.name.startswith(b"tokenizer.")]
        if names:
            model.drop(rng.choice(names).decode(errors="ignore"))


# Tensors


def _drop_tensor(model: GGUF, rng: Rng) -> None:
    at = rng.randrange(len(model.tensors))
    del model.tensors[at : at + rng.choice((1, 1, 1, 5, 100))]


def _repeat_tensor(model: GGUF, rng: Rng) -> None:
    model.tensors.append(replace(rng.choice(model.tensors)))


def _rename_tensor(model: GGUF, rng: Rng) -> None:
    tensor = rng.choice(model.tensors)
    long = (b"x" * 63, b"x" * 64, b"x" * 70_000, tensor.name + b"\0", b"\xff")
    tensor.name = rng.choice((*long, *(name.encode() for name in TRY["tensor_names"])))


def _tensor_type(model: GGUF, rng: Rng) -> None:
    """Another type, with data of the size that it needs, or not."""
    for tensor in rng.sample(model.tensors, rng.choice((1, 1, len(model.tensors)))):
        known = [*TENSOR_TYPES] * 3
        tensor.number = rng.choice((*known, 4, 5, 31, 43, 100, 2**31, 2**32 - 1))
        kind = TENSOR_TYPES.get(tensor.number)
        if kind is not None and rng.random() < 0.9:
            size = min(-(-math.prod(tensor.dims) // kind.block) * kind.nbytes, 10**6)
            tensor.data = rng.choice((bytes(size), rng.randbytes(size), b"\xff" * size))


def _tensor_dims(model: GGUF, rng: Rng) -> None:
    tensor = rng.choice(model.tensors)
    at = rng.randrange(len(tensor.dims) or 1)
    near = [*tensor.dims]
    near[at : at + 1] = [_near(rng, near[at]) if near else 1]
    huge = [*tensor.dims]
    huge[at : at + 1] = [rng.choice((0, 1, 2**31, 2**32, 2**62, 2**63, 2**64 - 1))]
    ones, turned = [1] * rng.choice((0, 1, 4, 5, 100)), tensor.dims[::-1]
    tensor.dims = tuple(rng.choice((near, huge, ones, turned, [*near, 1], [*near, 2], [2**32] * 4)))
    size = 4 * math.prod(tensor.dims)
    if size < 10**6 and rng.random() < 0.5:
        tensor.data = bytes(size)


def _tensor_offset(model: GGUF, rng: Rng) -> None:
    choices = (0, 1, 16, 32, 64, 2**31, 2**63, 2**64 - 32, 2**64 - 1)
    rng.choice(model.tensors).offset = rng.choice(choices)


def _shuffle_tensors(model: GGUF, rng: Rng) -> None:
    rng.shuffle(model.tensors)


def _weights(model: GGUF, rng: Rng) -> None:
    """Weights that are no numbers."""
    for tensor in rng.sample(model.tensors, min(3, len(model.tensors))):
        tensor.data = rng.choice((b"\xff", b"\0", b"\x7c", b"\x80")) * len(tensor.data)


# Bytes


def _flip(data: bytearray, model: GGUF, rng: Rng) -> None:
    for _ in range(rng.randrange(1, 9)):
        data[rng.randrange(model.marks[-1])] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, model: GGUF, rng: Rng) -> None:
    at = rng.randrange(model.marks[-1])
    junk = rng.choice((bytes(64), b"\xff" * 64, rng.randbytes(64)))[: rng.randrange(1, 64)]
    data[at : at + len(junk)] = junk


def _claim(data: bytearray, model: GGUF, rng: Rng) -> None:
    """A length or a count at the beginning of an item."""
    at = rng.choice(model.marks[1:])
    claim = rng.choice((0, 1, 255, 2**16, 2**20, 2**31, 2**32, 2**48, 2**62, 2**63, 2**64 - 1))
    data[at : at + 8] = struct.pack("<Q", claim)


def _truncate(data: bytearray, model: GGUF, rng: Rng) -> None:
    """In every section: within the items of the header, and within the data."""
    anywhere = rng.randrange(len(data))
    at = rng.choice((rng.choice(model.marks) + rng.randrange(-2, 14), anywhere, len(data) - 1))
    del data[max(0, at) :]


def _insert(data: bytearray, model: GGUF, rng: Rng) -> None:
    at = rng.randrange(model.marks[-1])
    data[at:at] = rng.randbytes(rng.randrange(1, 40))


_RAW = (_flip, _flip, _overwrite, _claim, _truncate, _truncate, _insert)
_HYPER = (_count, _count, _count, _heads, _layers, _real, _rope, _architecture)
_KEYS = (_retype, _key_number, _drop_key, _repeat_key, _rename_key, _shuffle_keys, _flag, _text)
_FORM = (_split, _alignment, _junk, _counts, _version)
_VOCABULARY = (_tokenizer, _one_token, _all_tokens, _types, _scores, _merges, _special_ids)
_WEIGHTS = (_drop_tensor, _repeat_tensor, _rename_tensor, _tensor_type, _tensor_dims)
_PLACES = (_tensor_offset, _shuffle_tensors, _weights, _drop_tokenizer)
_STRUCTURED = (*_HYPER, *_KEYS, *_FORM, *_VOCABULARY, *_VOCABULARY, *_WEIGHTS, *_PLACES)
