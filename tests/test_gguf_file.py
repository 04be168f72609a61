"""Reading headers: what they say, and that their form is checked."""

from __future__ import annotations

import contextlib
import os
import struct
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import gguf
import ggufs
import numpy as np
import pytest
import smallmodels

from edge_llama import ModelFileError, inspect
from edge_llama.header.buffer import HeaderBuffer
from edge_llama.header.ggml_types import TENSOR_TYPES
from edge_llama.header.hyperparameters import RopeScaling
from edge_llama.header.parser import LongArray
from edge_llama.header.strings import read_strings

if TYPE_CHECKING:
    from pathlib import Path

    from edge_llama.header.strings import StringArray


def header(n_tensors: int, n_keys: int, body: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_keys) + body


def key(name: bytes, number: int, raw: bytes) -> bytes:
    return ggufs.string(name) + struct.pack("<I", number) + raw


def test_reads_the_real_header(embedded: Path) -> None:
    started = time.perf_counter()
    info = inspect(embedded)
    assert time.perf_counter() - started < 5  # bounded; typically 0.02 s
    assert (info.architecture, info.n_layers, info.context_length) == ("llama", 30, 8192)
    assert info.n_vocab == 49152
    assert info.n_parameters == 134_515_008
    assert info.metadata["tokenizer.ggml.merges"] == LongArray(48900)
    assert info.chat_template is not None
    assert info.bytes_by_type.keys() == {"Q4_1", "Q8_0", "F32"}
    assert info.parts == (embedded,)
    assert info.bytes_by_part == (sum(info.bytes_by_type.values()),)
    hparams = info.hparams
    assert (hparams.n_embd, hparams.n_head, hparams.n_head_kv) == (576, (9,) * 30, (3,) * 30)
    assert (hparams.key_length, hparams.value_length, hparams.n_rot) == (64, 64, 64)
    assert hparams.n_ff == (1536,) * 30
    assert hparams.kv_widths == (3 * 128,) * 30
    assert hparams.rope_scaling == RopeScaling(type="linear", factor=1.0, original_context=8192)


def test_agrees_with_the_gguf_package(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(smallmodels.small_llama(experts=4).to_bytes())
    ours = {tensor.name: tensor for tensor in inspect(path).tensors}
    for theirs in gguf.GGUFReader(path).tensors:
        mine = ours[theirs.name]
        assert mine.offset == theirs.data_offset
        assert mine.nbytes == theirs.n_bytes
        assert list(mine.shape[::-1]) == theirs.shape.tolist()


def test_tensor_types_are_those_of_the_gguf_package() -> None:
    for kind in gguf.GGMLQuantizationType:
        ours = TENSOR_TYPES[kind]
        assert (ours.name, (ours.block, ours.nbytes)) == (kind.name, gguf.GGML_QUANT_SIZES[kind])


def test_hyper_parameters_of_a_mixture_with_yarn(tmp_path: Path) -> None:
    model = smallmodels.small_llama("spm", experts=4)
    model.set("llama.rope.scaling.type", "str", "yarn")
    model.set("llama.rope.scaling.factor", "f32", 4.0)
    model.set("llama.rope.scaling.original_context_length", "u32", 128)
    model.set("llama.attention.head_count_kv", "arr[i32]", [2, 2])
    model.set("llama.attention.sliding_window", "u32", 256)
    path = tmp_path / "x.gguf"
    path.write_bytes(model.to_bytes())
    hparams = inspect(path).hparams
    assert (hparams.n_expert, hparams.n_expert_used, hparams.n_swa) == (4, (2, 2), 256)
    assert hparams.n_head_kv == (2, 2)
    assert hparams.rope_scaling == RopeScaling(type="yarn", factor=4.0, original_context=128)


def read_array(tmp_path: Path, texts: list[bytes]) -> StringArray:
    """The texts as an array of a file's header, after three other bytes and before junk."""
    path = tmp_path / "strings"
    path.write_bytes(b"abc" + b"".join(map(ggufs.string, texts)) + b"\0junk" * 5)
    with path.open("rb", buffering=0) as file:
        found, end = read_strings(HeaderBuffer(file, path), 3, len(texts))
    assert end == path.stat().st_size - 25
    return found


@pytest.mark.parametrize(
    "unusual",
    [
        [],
        [b"x" * 255, b"y" * 256, b"z" * 257, b"w" * 70_000],
        [b"", b"", b"a", b""],
        [b"\0", b"a\0\0\0\0\0\0\0\0b", b"\0" * 300],
        [b"\0" * 7 + b"a", b"\1" + b"\0" * 7],
    ],
)
def test_arrays_of_strings_are_read_whatever_they_hold(
    tmp_path: Path, unusual: list[bytes]
) -> None:
    """More than one window of ordinary texts, with unusual ones among them and at both ends."""
    texts = [b"token %d" % number for number in range(100_000)]
    texts[40_000:40_000] = unusual
    texts = unusual + texts + unusual[::-1]
    found = read_array(tmp_path, texts)
    assert [found[index] for index in range(len(found))] == texts
    c_texts = found.as_c()
    assert [c_texts[index] for index in range(len(found))] == [
        text.partition(b"\0")[0] for text in texts
    ]


def test_duplicates_are_found_and_only_they(tmp_path: Path) -> None:
    texts = [b"token %d" % number * (number % 5) for number in range(60_000)]
    assert read_array(tmp_path, texts).first_duplicate() is None  # empty ones do not count
    texts[777] = texts[41]
    assert read_array(tmp_path, texts).first_duplicate() == (41, 777)


def test_truncation_is_found_in_every_section(tmp_path: Path) -> None:
    model = smallmodels.small_llama()
    whole = model.to_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole)
    end = inspect(path).tensors[-1]
    sizes = {mark + step for mark in model.marks for step in (-1, 0, 1, 9, 13)}
    for size in sorted(sizes | {0, 1, 3, len(whole) // 2, end.offset + end.nbytes - 1}):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError) as caught:
            inspect(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a GGUF"),
        (b"PK\x03\x04", "not a GGUF"),
        (header(0, 0, version=1), "version 1"),
        (header(0, 0, version=3 << 24), "big-endian"),
        (header(2**60, 0), "claims"),
        (header(0, 2**60), "claims"),
        (header(0, 2**17, bytes(2**21)), "no model has more"),
        (header(0, 1, struct.pack("<Q", 2**62)), "claims"),
        (header(0, 1, struct.pack("<Q", 2**24 + 1) + bytes(2**25)), "no model has more"),
        (header(0, 1, key(b"k", 99, b"\0" * 8)), "value type 99"),
        (header(0, 1, key(b"k\0", 0, b"\0" * 8)), "no proper name"),
        (header(0, 1, key(b"", 0, b"\0" * 8)), "no proper name"),
        (header(0, 1, key(b"k", 9, struct.pack("<IQ", 8, 2**50))), "claims"),
        (header(0, 1, key(b"k", 9, struct.pack("<IQ", 8, 2**21) + bytes(2**25))), "no model has"),
        (header(0, 1, key(b"k", 9, struct.pack("<IQ", 0, 2**21) + bytes(2**22))), "no model has"),
        (header(0, 1, key(b"k", 9, struct.pack("<IQQ", 8, 1, 2**40) + bytes(64))), "truncated"),
        (header(0, 1, key(b"k", 9, struct.pack("<IQ", 9, 1) + bytes(9))), "array of unknown"),
        (header(0, 2, key(b"k", 0, b"\1") * 2), "appears twice"),
        (header(0, 1, key(b"k\x1b[2J\n", 77, b"\0" * 8)), "k\ufffd.*2J\ufffd has unknown value"),
        (header(0, 0, b"\0" * 64), "general.architecture is missing"),
        (header(1, 0, ggufs.string(b"t" * 64) + bytes(32)), "longer than 63"),
        (header(1, 0, ggufs.string(b"t") + struct.pack("<I", 5) + bytes(64)), "5 dimensions"),
        (header(1, 0, ggufs.string(b"t") + struct.pack("<IQIQ", 1, 33, 8, 0)), "impossible shape"),
        (header(1, 0, ggufs.string(b"t") + struct.pack("<IQIQ", 1, 0, 0, 0)), "impossible shape"),
        (header(1, 0, ggufs.string(b"t") + struct.pack("<IQIQ", 1, 1, 31, 0)), "type number 31"),
        (header(1, 0, ggufs.string(b"t") + struct.pack("<IQIQ", 1, 1, 0, 32)), "offset 32"),
        (header(0, 1, key(b"general.alignment", 4, struct.pack("<I", 24))), "no power of two"),
        (header(0, 1, key(b"general.alignment", 10, struct.pack("<Q", 32))), "no power of two"),
    ],
)
def test_hostile_headers_are_refused_at_once(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message) as caught:
        inspect(path)
    assert str(caught.value).isprintable()


def test_a_million_empty_strings_take_no_time(tmp_path: Path) -> None:
    """The worst case of the walk over strings: none of them is ordinary."""
    started = time.perf_counter()
    assert len(read_array(tmp_path, [b""] * 2**20)) == 2**20
    assert time.perf_counter() - started < 10  # typically 0.5 s


@pytest.mark.parametrize(
    "keys",
    [
        [("text", "str", "\U0001f642" * 2**21)],
        [("texts", "arr[str]", ["\U0001f642" * 2**22])],
        [("numbers", "arr[u8]", [0] * 512)] * 2**14,
        [("numbers", "arr[u8]", [0] * 2**20)] * 30,
        [("texts", "arr[str]", [""] * 2**20)],
    ],
)
def test_a_large_header_does_not_grow_in_memory(
    tmp_path: Path, keys: list[tuple[str, str, Any]]
) -> None:
    path = tmp_path / "x.gguf"
    model = smallmodels.small_llama()
    model.keys += [
        ggufs.Key(f"{at}.{name}".encode(), ggufs.number(kind), ggufs.encode(kind, value))
        for at, (name, kind, value) in enumerate(keys)
    ]
    path.write_bytes(model.to_bytes())
    tracemalloc.start()
    try:
        with contextlib.suppress(ModelFileError):
            inspect(path)
        assert tracemalloc.get_traced_memory()[1] < 60 * 2**20
    finally:
        tracemalloc.stop()


def test_folders_pipes_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is a folder"):
        inspect(tmp_path)
    with pytest.raises(ModelFileError, match="no such file"):
        inspect(tmp_path / "nothing.gguf")
    with pytest.raises(ModelFileError, match="null"):
        inspect("a\0b")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ModelFileError, match="no regular file"):
            inspect(tmp_path / "pipe")  # and does not wait for a writer


def test_scalar_tensors(tmp_path: Path) -> None:
    """One without dimensions in the file has one element."""
    model = smallmodels.small_llama()
    model.tensors.append(ggufs.Tensor(b"blk.0.attn_q.scale", (), 0, np.float32(1).tobytes()))
    path = tmp_path / "x.gguf"
    path.write_bytes(model.to_bytes())
    assert inspect(path).tensors[-1].shape == (1,)
