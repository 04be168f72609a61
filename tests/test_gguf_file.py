from __future__ import annotations

import contextlib
import struct
import time
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from edge_llama import ModelFileError, inspect
from edge_llama.gguf_header import LongArray

if TYPE_CHECKING:
    from pathlib import Path


def write_small(path: Path, *, without: str = "") -> Path:
    """A GGUF with every required key (except ``without``), a short vocabulary and one tensor."""
    writer = gguf.GGUFWriter(path, "llama")
    for key in ("block_count", "context_length", "embedding_length", "attention.head_count"):
        if key != without:
            writer.add_uint32(f"llama.{key}", 32)
    if without != "tokens":
        writer.add_token_list(["a", "b"])
    if without != "tensors":
        writer.add_tensor("token_embd.weight", np.zeros((2, 32), np.float32))
        writer.add_tensor("output_norm.weight", np.zeros(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    if without == "tensors":
        writer.write_ti_data_to_file()
    else:
        writer.write_tensors_to_file()
    writer.close()
    return path


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def header(n_tensors: int, n_keys: int, body: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_keys) + body


def test_reads_the_real_header(embedded: Path) -> None:
    started = time.perf_counter()
    info = inspect(embedded)
    assert time.perf_counter() - started < 10  # bounded; typically 0.1 s
    assert (info.architecture, info.n_layers, info.context_length) == ("llama", 30, 8192)
    assert info.n_vocab == 49152
    assert info.n_parameters == 134_515_008
    assert info.metadata["tokenizer.ggml.merges"] == LongArray(48900)
    assert info.chat_template is not None
    assert info.bytes_by_type.keys() == {"Q4_1", "Q8_0", "F32"}


def test_agrees_with_the_gguf_package(embedded: Path) -> None:
    ours = {tensor.name: tensor for tensor in inspect(embedded).tensors}
    for theirs in gguf.GGUFReader(embedded).tensors:
        mine = ours[theirs.name]
        assert mine.offset == theirs.data_offset
        assert mine.nbytes == theirs.n_bytes
        assert list(mine.shape[::-1]) == theirs.shape.tolist()


def test_small_file_is_whole(tmp_path: Path) -> None:
    info = inspect(write_small(tmp_path / "x.gguf"))
    assert [tensor.name for tensor in info.tensors] == ["token_embd.weight", "output_norm.weight"]


def test_truncation_anywhere_is_found(tmp_path: Path) -> None:
    whole = write_small(tmp_path / "x.gguf").read_bytes()
    end = inspect(tmp_path / "x.gguf").tensors[-1]
    path = tmp_path / "cut.gguf"
    for size in range(end.offset + end.nbytes):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError) as caught:
            inspect(path)
        assert str(path) in str(caught.value)


def test_any_changed_byte_is_an_error_or_a_readable_file(tmp_path: Path) -> None:
    whole = bytearray(write_small(tmp_path / "x.gguf").read_bytes())
    start = inspect(tmp_path / "x.gguf").tensors[0].offset
    path = tmp_path / "changed.gguf"
    for at in range(start):
        for value in (0, 0x7F, 0xFF):
            changed = bytearray(whole)
            changed[at] = value
            path.write_bytes(changed)
            with contextlib.suppress(ModelFileError):  # any other exception fails the test
                inspect(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a GGUF"),
        (b"PK\x03\x04", "not a GGUF"),
        (header(0, 0, version=1), "version 1"),
        (header(2**60, 0), "claims"),
        (header(0, 2**60), "claims"),
        (header(0, 1, struct.pack("<Q", 2**62)), "claims"),
        (header(0, 1, string(b"k") + struct.pack("<I", 99) + b"\0" * 8), "value type 99"),
        (header(0, 1, string(b"k") + struct.pack("<IIQ", 9, 8, 2**50)), "claims"),
        (header(0, 1, string(b"k") + struct.pack("<IIQ", 9, 9, 1) + b"\0" * 9), "array of unknown"),
        (
            header(0, 2, (string(b"k") + struct.pack("<IB", 0, 1)) * 2),
            "appears twice",
        ),
        (header(0, 0, b"\0" * 64), "general.architecture is missing"),
    ],
)
def test_hostile_headers_are_refused_at_once(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        inspect(path)


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("context_length", r"llama\.context_length is missing"),
        ("tokens", "no tokenizer"),
        ("tensors", "no weights"),
    ],
)
def test_missing_essentials_are_named(tmp_path: Path, without: str, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        inspect(write_small(tmp_path / "x.gguf", without=without))


def test_folders_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is a folder"):
        inspect(tmp_path)
    with pytest.raises(ModelFileError, match="no such file"):
        inspect(tmp_path / "nothing.gguf")
