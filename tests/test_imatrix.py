"""Quantising with an importance matrix, against llama-quantize's files; and bad matrices."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import TYPE_CHECKING, Any

import builders
import families
import imatrices
import numpy as np
import pytest
from reports import convert_with_report

from edge_llama_convert import OutputError, Recipe, SourceError, convert, plan
from edge_llama_convert.ggufsource import read_gguf_header
from edge_llama_convert.report import REPORT_KEY, read_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

# sha256 of llama-quantize's files; see imatrices.py.
LLAMA_CPP: dict[str, dict[str, str]] = json.loads(imatrices.DIGESTS.read_text(encoding="utf-8"))

#: Every type on the smallest family; the benchmark compares all types on all of them.
TYPES: dict[str, Iterable[Recipe]] = {
    # Nine layers: llama.cpp's rules for ffn_down change in the first eighth.
    "llama-gqa-tied": [Recipe.Q4_0, Recipe.Q5_0, Recipe.IQ4_XS],
    "mixtral-4": [Recipe.Q2_K, Recipe.Q3_K_M, Recipe.Q4_K_M, Recipe.Q6_K],
    "mixtral-8": Recipe,
}


@pytest.mark.parametrize(("name", "shape"), imatrices.CASES)
def test_the_files_equal_llama_quantize_s_byte_for_byte(
    name: str, shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the file keeps the matrix's path as it is given
    source = families.build(tmp_path, name, shape)
    wrong = []
    for imatrix in imatrices.write(tmp_path, families.config(name, shape)):
        for recipe in TYPES[name]:
            convert(plan(source, recipe=recipe, imatrix=imatrix), "out.gguf", force=True)
            digest = hashlib.sha256((tmp_path / "out.gguf").read_bytes()).hexdigest()
            if digest != LLAMA_CPP[f"{source.name} {imatrix}"][recipe.value]:
                wrong.append((imatrix, recipe.value))
    assert wrong == []


@pytest.mark.parametrize("name", ["llama-gqa-tied", "mixtral-4"])
def test_a_gguf_as_source_gives_the_same_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = families.build(tmp_path, name, "even")
    imatrices.write(tmp_path, families.config(name, "even"))
    # Written with the other matrix first: its keys give way to the new one's.
    convert(plan(source, recipe="bf16", imatrix="imatrix.dat"), "base.gguf")
    convert(plan("base.gguf", recipe="q4_0", imatrix="imatrix.gguf"), "out.gguf")
    digest = hashlib.sha256((tmp_path / "out.gguf").read_bytes()).hexdigest()
    assert digest == LLAMA_CPP[f"{name}-even imatrix.gguf"]["q4_0"]


def test_the_plan_says_which_tensors_go_without(tmp_path: Path) -> None:
    source = families.build(tmp_path, "mixtral-4", "even")
    imatrices.write(tmp_path, families.config("mixtral-4", "even"))
    coverage = plan(source, imatrix=tmp_path / "imatrix.gguf").importance
    assert coverage is not None
    assert coverage.tensors == 15
    assert coverage.missing == ("output.weight", "token_embd.weight", "blk.1.attn_q.weight")
    assert plan(source).importance is None


def test_long_names_are_cut_as_llama_quantize_does(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / ("é" * 80)
    imatrices.write_gguf(path, tiny_sums(), datasets=("d" * 126 + "é",))
    convert(plan(tiny_checkpoint, imatrix=path), tmp_path / "out.gguf")
    raw = (tmp_path / "out.gguf").read_bytes()
    for key, text in (("file", str(path)), ("dataset", "d" * 126 + "é")):
        field = b"quantize.imatrix." + key.encode() + struct.pack("<IQ", 8, 127)
        assert field + text.encode()[:127] in raw


def tiny_sums() -> imatrices.Sums:
    return imatrices.sums({**builders.CONFIG, **builders.TINY_SHAPE})


def one(name: str, values: Any, counts: Any = 512) -> imatrices.Sums:
    shape = np.array(counts, dtype=np.float32).reshape(-1)
    return {name: (np.array(values, dtype=np.float32).reshape(len(shape), -1), shape)}


def spoil(**changes: float) -> Callable[[], imatrices.Sums]:
    def build() -> imatrices.Sums:
        found = tiny_sums()
        values, counts = found["blk.1.ffn_down.weight"]
        values[0, 7] = changes.get("value", values[0, 7])
        counts[0] = changes.get("count", counts[0])
        return found

    return build


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (spoil(value=np.nan), "blk.1.ffn_down.weight: value 7 is nan"),
        (spoil(value=np.inf), "blk.1.ffn_down.weight: value 7 is inf"),
        (spoil(value=-1), "blk.1.ffn_down.weight: value 7 is -"),
        (spoil(count=-1), "blk.1.ffn_down.weight.counts: value 0 is -1"),
        (lambda: one("blk.2.attn_q.weight", [1] * 64), "no tensor blk.2.attn_q.weight"),
        (lambda: one("blk.0.attn_q.weight", [1] * 63), "63 values, the tensor has 64 columns"),
        (lambda: one("blk.0.attn_q.weight", [1] * 128, [1, 1]), "128 values, the tensor has 64"),
        (lambda: one("token_embd.weight", [1] * 63), "none of its entries fits"),
    ],
)
def test_a_matrix_that_does_not_fit_is_refused(
    make: Callable[[], imatrices.Sums], fault: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    for write in (imatrices.write_gguf, imatrices.write_dat):
        path = tmp_path / "imatrix"
        write(path, make())
        if write is imatrices.write_dat and "counts" in fault:
            continue  # it has no counts
        with pytest.raises(SourceError) as error:
            plan(tiny_checkpoint, imatrix=path)
        assert fault in str(error.value)
        assert str(path) in str(error.value)


def dat(*, entries: int = 1, name: bytes = b"blk.0.attn_q.weight", count: int = 64) -> bytes:
    head = struct.pack("<2i", entries, len(name)) + name + struct.pack("<2i", 1, count)
    return head + np.ones(64, dtype=np.float32).tobytes()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "the number of entries takes 4 bytes, the file has 0 more"),
        (b"text that is no matrix", "the number of entries is 1,954,047,348"),
        (dat(entries=0), "the number of entries is 0"),
        (dat(entries=2), "the length of entry 2's name takes 4 bytes, the file has 0 more"),
        (dat(entries=2) + dat()[4:], "blk.0.attn_q.weight appears twice"),
        (dat(name=b"x" * 64), "the length of entry 1's name is 64"),
        (dat(name=b"\xff\xfe"), "entry 1's name is no text"),
        (dat(count=65), "its values takes 260 bytes, the file has 256 more"),
        (dat(count=2**31 - 1), "its values takes 8,589,934,588 bytes"),
        (dat(count=-1), "the number of values is -1"),
        (dat() + b"\0\0", "the number of chunks takes 4 bytes, the file has 2 more"),
        (dat() + struct.pack("<2i", 1, 9) + b"abc", "the dataset's name takes 9 bytes"),
        (dat() + struct.pack("<2i", 1, 3) + b"abcd", "1 bytes follow its end"),
    ],
)
def test_a_damaged_dat_file_is_refused(
    content: bytes, fault: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(content)
    with pytest.raises(SourceError) as error:
        plan(tiny_checkpoint, imatrix=path)
    assert fault in str(error.value)


def test_a_dat_file_may_end_after_its_entries(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(dat())
    convert(plan(tiny_checkpoint, imatrix=path), tmp_path / "out.gguf")
    keys = list(read_gguf_header(tmp_path / "out.gguf").metadata)
    assert keys[-2:] == ["quantize.imatrix.file", "quantize.imatrix.entries_count"]
    assert keys[-3] == "general.file_type"


def test_a_gguf_that_is_no_matrix_is_refused(
    tiny_checkpoint: Path, embedded: Path, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=r"key imatrix\.datasets is missing"):
        plan(tiny_checkpoint, imatrix=embedded)
    path = tmp_path / "imatrix.gguf"
    imatrices.write_gguf(path, tiny_sums())
    whole = path.read_bytes()
    for damage, fault in (
        (whole.replace(b".counts", b".cuonts", 1), "blk.0.attn_k.weight.counts is missing"),
        (whole.replace(b".in_sum2", b".in_sun2"), r"\.in_sum2 is missing"),
        (whole[:-1000], "truncated"),
    ):
        path.write_bytes(damage)
        with pytest.raises(SourceError, match=fault):
            plan(tiny_checkpoint, imatrix=path)


def test_the_matrix_is_never_overwritten(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "imatrix.gguf"
    imatrices.write_gguf(path, tiny_sums())
    before = path.read_bytes()
    with pytest.raises(OutputError, match="is a file of the source"):
        convert(plan(tiny_checkpoint, imatrix=path), path, force=True)
    assert path.read_bytes() == before


def test_the_report_has_the_matrix_s_sha256(tmp_path: Path) -> None:
    source = families.build(tmp_path, "llama-gqa-tied", "ragged")
    imatrices.write(tmp_path, families.config("llama-gqa-tied", "ragged"))
    path = tmp_path / "imatrix.dat"
    convert_with_report(source, tmp_path / "out.gguf", recipe="q4_0", imatrix=path)
    header = read_gguf_header(tmp_path / "out.gguf")
    report = read_report(header.metadata[REPORT_KEY].value)
    assert report is not None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert report["imatrix"]["imatrix.dat"]["sha256"] == digest
    assert path.name not in report["inputs"]
