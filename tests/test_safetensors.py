from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import builders
import numpy as np
import pytest

from edge_llama_convert import SourceError
from edge_llama_convert.safetensors import read_header

if TYPE_CHECKING:
    from pathlib import Path


def write_raw(path: Path, header: Any, data: bytes = b"") -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


def test_reads_where_each_tensor_lies(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    builders.write_safetensors(path, {"a": ("F32", values), "b": ("F16", values.astype("f2"))})
    tensors = read_header(path)
    assert {name: (ref.dtype, ref.shape) for name, ref in tensors.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("F16", (2, 3)),
    }
    stored = np.fromfile(path, dtype=np.float32, count=6, offset=tensors["a"].offset)
    assert stored.tolist() == [0, 1, 2, 3, 4, 5]
    assert tensors["b"].nbytes == 12


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (b"", b"", "not valid JSON"),
        (b"{]", b"", "not valid JSON"),
        (b"[" * 100_000, b"", "not valid JSON"),
        ([], b"", "not an object"),
        ({"a": ENTRY}, b"\0" * 7, "truncated"),
        ({"a": {**ENTRY, "shape": [3]}}, b"\0" * 12, "its shape"),
        ({"a": {**ENTRY, "shape": [-1]}}, b"\0" * 8, "malformed"),
        ({"a": {**ENTRY, "shape": [2**62, 2**62]}}, b"\0" * 8, "its shape"),
        ({"a": {"dtype": "F32"}}, b"\0" * 8, "malformed"),
        ({"a": 3}, b"\0" * 8, "malformed"),
        ({"a": ENTRY, "b": {**ENTRY, "data_offsets": [4, 12]}}, b"\0" * 12, "overlaps"),
        (b'{"a": {}, "a": {}}', b"", "twice"),
    ],
)
def test_damaged_header_is_one_clear_error(
    tmp_path: Path, header: Any, data: bytes, message: str
) -> None:
    path = write_raw(tmp_path / "x.safetensors", header, data)
    with pytest.raises(SourceError, match=message) as caught:
        read_header(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"", b"\x08\0\0", b"\xff" * 8, b"\xff\0\0\0\0\0\0\0{}"])
def test_a_length_beyond_the_file_is_refused_before_it_is_believed(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(SourceError):
        read_header(path)
