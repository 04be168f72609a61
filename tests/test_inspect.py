"""``edge-llama inspect``: all of the header, nothing of the weights."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import gguf
import pytest
import smallmodels

from edge_llama import inspect
from edge_llama.filetypes import file_type, missing_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    RunCLI = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.model
def test_everything_agrees_with_another_reader(run_cli: RunCLI, embedded: Path) -> None:
    facts = json.loads(run_cli("info", str(embedded), "--json", "--tensors").stdout)
    reader = gguf.GGUFReader(embedded)
    assert facts["type"] == "Q4_1"
    assert facts["parameters"] == sum(math.prod(tensor.shape) for tensor in reader.tensors)
    assert facts["whole"] is True
    assert facts["tensors"] == [
        {
            "name": tensor.name,
            "shape": [int(size) for size in reversed(tensor.shape)],
            "type": tensor.tensor_type.name,
            "bytes": tensor.n_bytes,
            "part": 0,
            "offset": tensor.data_offset,
        }
        for tensor in reader.tensors
    ]
    for kind, total in facts["types"].items():
        same = [tensor for tensor in reader.tensors if tensor.tensor_type.name == kind]
        assert (total["tensors"], total["bytes"]) == (len(same), sum(each.n_bytes for each in same))
        block, nbytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
        assert total["bits_per_weight"] == pytest.approx(nbytes * 8 / block, abs=1e-3)
    merges = reader.fields["tokenizer.ggml.merges"]
    assert facts["tokenizer"]["merges"] == len(merges.data)
    assert facts["tokenizer"]["pre"] == "smollm"


def test_what_people_see(run_cli: RunCLI, tmp_path: Path) -> None:
    path = tmp_path / ("a-long-folder-name" * 5) / "mixture.gguf"
    path.parent.mkdir()
    model = smallmodels.small_llama("spm", experts=4)
    model.set("general.name", "str", "evil [red]\x1b[31m name")
    path.write_bytes(model.to_bytes())
    shown = run_cli("inspect", str(path), "--tensors").stdout
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert f"file {path}" in lines  # in one piece, although it is long
    assert "name evil [red]\ufffd[31m name" in lines
    assert "shape 2 layers of width 64, 4 heads, 2 of keys and values, 2 of 4 experts" in lines
    assert "tokenizer llama (default), 279 tokens, bos 1, eos 2" in lines
    assert "chat template none" in lines
    assert "blk.0.attn_k.weight 32 x 64 F16 4,096" in lines


@pytest.mark.model
@pytest.mark.skipif(not hasattr(os, "SEEK_HOLE"), reason="asks the file system for holes")
def test_a_download_that_reserved_its_space_is_not_whole(
    run_cli: RunCLI, embedded: Path, tmp_path: Path
) -> None:
    path, size, missing = tmp_path / "half.gguf", embedded.stat().st_size, 5_000_000
    shutil.copyfile(embedded, path)
    assert missing_bytes(inspect(path)) == 0
    os.truncate(path, size - missing)
    os.truncate(path, size)
    if missing_bytes(inspect(path)) == 0:
        pytest.skip("this file system has no holes")
    facts = json.loads(run_cli("inspect", "half.gguf", "--json").stdout)
    assert facts["whole"] is False
    assert 0 <= missing - facts["missing_bytes"] < 1 << 20
    assert "were never written" in run_cli("inspect", "half.gguf").stdout


def test_types_of_files(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    model = smallmodels.small_llama()
    path.write_bytes(model.to_bytes())
    assert file_type(inspect(path)) == "F16"  # by its bytes
    for number in gguf.LlamaFileType:
        model.set("general.file_type", "u32", number.value)
        path.write_bytes(model.to_bytes())
        expected = number.name.removeprefix("ALL_").removeprefix("MOSTLY_")
        assert file_type(inspect(path)) == ("F16" if expected == "GUESSED" else expected)


def test_it_loads_no_native_library(embedded: Path) -> None:
    script = (
        "import sys; from edge_llama.cli.app import run; code = run(['inspect', sys.argv[1]]); "
        "sys.exit('llama_cpp' in sys.modules or code)"
    )
    subprocess.run([sys.executable, "-c", script, str(embedded)], check=True, capture_output=True)
