"""The report that a converted file carries: where it is, what it says, what it leaves alone."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import builders
import families
import gguf
import pytest
from reports import convert_with_report, without_report

from edge_llama import inspect
from edge_llama_convert import convert, plan
from edge_llama_convert.checks import Level
from edge_llama_convert.fileio import SharedFile
from edge_llama_convert.header import Slot
from edge_llama_convert.inputs import changed, fingerprints, inputs_of
from edge_llama_convert.report import (
    MAX_BYTES,
    REPORT_KEY,
    compare_inputs,
    is_of,
    read_report,
    summary,
    write_text,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    RunCLI = Callable[..., subprocess.CompletedProcess[str]]


def stored(path: Path) -> dict[str, Any]:
    document = read_report(inspect(path).metadata[REPORT_KEY])
    assert document is not None
    return document


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return families.build(tmp_path_factory.mktemp("report"), "llama-mha", "even")


# --- The file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama-yarn", "mixtral-4"])
def test_one_key_is_all_that_differs(tmp_path: Path, family: str) -> None:
    """Without a report the files are llama.cpp's (test_families); with one, but for that key."""
    source = families.build(tmp_path, family, "ragged")
    convert(plan(source, recipe="q8_0"), tmp_path / "bare.gguf")
    convert_with_report(source, tmp_path / "x.gguf", recipe="q8_0")
    assert without_report(tmp_path / "x.gguf") == (tmp_path / "bare.gguf").read_bytes()


def test_a_plan_knows_the_size_with_the_report(source: Path, tmp_path: Path) -> None:
    work = convert_with_report(source, tmp_path / "x.gguf", recipe="q8_0")
    assert work.nbytes == (tmp_path / "x.gguf").stat().st_size
    assert work.nbytes > plan(source, recipe="q8_0").nbytes


def test_converting_twice_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        convert_with_report(source, tmp_path / name, level=Level.FULL, recipe="q4_k_m")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_gguf_s_own_report_is_not_taken_over(source: Path, tmp_path: Path) -> None:
    convert_with_report(source, tmp_path / "with.gguf", recipe="f16")
    convert(plan(source, recipe="f16"), tmp_path / "bare.gguf")
    for name in ("with", "bare"):
        convert(plan(tmp_path / f"{name}.gguf", recipe="q8_0"), tmp_path / f"{name}-q8.gguf")
    assert (tmp_path / "with-q8.gguf").read_bytes() == (tmp_path / "bare-q8.gguf").read_bytes()
    convert_with_report(tmp_path / "with.gguf", tmp_path / "again.gguf", recipe="q8_0")
    assert stored(tmp_path / "again.gguf")["source"] == {"name": "with.gguf"}
    assert set(stored(tmp_path / "again.gguf")["inputs"]) == {"with.gguf"}


# --- What it says --------------------------------------------------------------------------------


def test_what_a_quick_report_says(source: Path, tmp_path: Path) -> None:
    convert_with_report(source, tmp_path / "x.gguf", recipe="q8_0")
    document = stored(tmp_path / "x.gguf")
    assert document["source"] == {"name": source.name}
    weights = (source / "model.safetensors").read_bytes()
    head = 8 + int.from_bytes(weights[:8], "little")
    assert document["inputs"].pop("model.safetensors") == {
        "bytes": len(weights),
        "head_bytes": head,
        "head_sha256": hashlib.sha256(weights[:head]).hexdigest(),
    }
    for name, entry in document["inputs"].items():
        content = (source / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert set(document["inputs"]) == {"config.json", "tokenizer.model", "tokenizer_config.json"}
    assert document["tools"].keys() == {"edge-llama", "llama-cpp-python", "gguf", "numpy", "ggml"}
    assert document["verification"]["level"] == "quick"
    checks = document["verification"]["checks"]
    assert (checks["tokenizer"]["texts"], checks["tokenizer"]["different"]) == (16, 0)
    errors = checks["weights"]["relative_rms_error"]
    assert errors["F32"] == {"tensors": 7, "mean": 0.0, "worst": 0.0}
    assert 0.004 < errors["Q8_0"]["mean"] <= errors["Q8_0"]["worst"] < 0.01
    assert str(source.parent) not in (tmp_path / "x.gguf").read_bytes().decode("latin-1")


def test_what_a_full_report_says_too(source: Path, tmp_path: Path) -> None:
    convert_with_report(source, tmp_path / "x.gguf", level=Level.FULL, recipe="q8_0")
    document = stored(tmp_path / "x.gguf")
    digest = hashlib.sha256((source / "model.safetensors").read_bytes()).hexdigest()
    assert document["inputs"]["model.safetensors"]["sha256"] == digest
    checks = document["verification"]["checks"]
    assert checks["weights"]["values"] == sum(
        int(tensor.n_elements) for tensor in gguf.GGUFReader(tmp_path / "x.gguf").tensors
    )
    assert checks["forward pass"]["positions"] == 16
    assert checks["forward pass"]["mean_cosine"] > 0.99
    assert checks["forward pass"]["mean_kl_divergence"] < 0.01


def test_details_are_left_out_where_there_is_no_room(tmp_path: Path) -> None:
    document = {
        "format": 1,
        "inputs": {str(i) * 50: {"bytes": i} for i in range(8)},
        "verification": {"level": "full", "checks": {"weights": {"rows": 1}}},
    }
    path, room = tmp_path / "x", 700
    path.write_bytes(bytes(room))
    found: dict[int, Any] = {}
    for size in range(room):
        with SharedFile(path, write=True) as file:
            file.write_at(memoryview(b" " * size + b"." * (room - size)), 0)
            write_text(file, Slot(0, size), document)
        content = path.read_bytes()
        assert content[size:] == b"." * (room - size)
        found[size] = json.loads(content[:size]) if size > 1 else content[:size].strip()
    assert found[room - 1] == document
    assert found[300] == {**document, "inputs": found[300]["inputs"]}
    assert found[300]["inputs"]["files"] == 8
    assert found[160] == {**found[300], "verification": {"level": "full"}}
    assert found[12] == {"format": 1}
    assert (found[2], found[1]) == ({}, b"")


@pytest.mark.parametrize(
    "text",
    [None, 1, "", " ", "[]", '{"format": 2}', "[" * 100_000, '{"format": 1}' + " " * MAX_BYTES],
)
def test_what_is_no_report_is_none(text: object) -> None:
    assert read_report(text) is None


def test_a_stranger_s_report_cannot_reach_the_terminal() -> None:
    checks = {f"\x1b{i}": "\x9b" * 1000 for i in range(1000)}
    document = {"source": "\x1b[2J\x07\u202e", "tools": ["x" * 10_000]}
    assert summary({**document, "verification": [1]})
    lines = summary({**document, "verification": {"level": {"a": "\n"}, "checks": checks}})
    assert len(lines) == 19
    for line in lines:
        assert line.isascii()
        assert line.isprintable()
        assert len(line) < 1100


def test_a_report_that_was_carried_over_is_told(source: Path, tmp_path: Path) -> None:
    convert_with_report(source, tmp_path / "x.gguf", recipe="q8_0")
    document = stored(tmp_path / "x.gguf")
    types = [tensor.type for tensor in inspect(tmp_path / "x.gguf").tensors]
    assert is_of(document, types)
    assert not is_of(document, ["Q4_K" if kind == "Q8_0" else kind for kind in types])
    assert is_of({"format": 1, "verification": {"checks": [1]}}, types)


# --- The inputs ----------------------------------------------------------------------------------


def test_known_hashes_are_taken_and_texts_in_folders_count(tmp_path: Path) -> None:
    source = builders.build_tiny_checkpoint(tmp_path / "tiny")
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "rag.jinja").write_text("{{ x }}")
    (source / "README.md").write_text("---\nlicense: mit\n---\n")
    (source / "notes.json").mkdir()  # no file, and nothing that a conversion reads
    files = inputs_of(plan(source))
    found = fingerprints(files, {"model.safetensors": "0" * 64}, whole=True)
    assert found["model.safetensors"]["sha256"] == "0" * 64
    assert {"README.md", "additional_chat_templates/rag.jinja"} < set(found)
    assert changed(found, files, whole=False) == []
    assert changed(found, files, whole=True) == ["model.safetensors"]
    del found["README.md"]
    assert changed(found, files, whole=False) == ["README.md"]


def test_other_inputs_are_told_in_one_line(tmp_path: Path) -> None:
    source = builders.build_tiny_checkpoint(tmp_path / "tiny")
    convert_with_report(source, tmp_path / "x.gguf", recipe="q8_0")
    document = stored(tmp_path / "x.gguf")
    same = compare_inputs(plan(source), document, Level.QUICK)
    assert same.passed
    assert not same.noteworthy
    (source / "generation_config.json").write_text("{}")
    (source / "config.json").write_text((source / "config.json").read_text() + "\n")
    other = compare_inputs(plan(source), document, Level.QUICK)
    assert other.noteworthy
    assert other.detail == (
        'the file was made from other inputs; different: "generation_config.json", "config.json"'
    )
    for damaged in ({"format": 1}, {"inputs": {"config.json": 1}}, {"inputs": [1]}):
        check = compare_inputs(plan(source), damaged, Level.QUICK)
        assert check.passed
        assert check.detail.startswith("not compared")


def test_the_command_stores_it_unless_verification_is_off(
    run_cli: RunCLI, source: Path, tmp_path: Path
) -> None:
    for level in ("quick", "off"):
        run = run_cli("convert", str(source), "--type", "q8_0", "-o", level, "--verify", level)
        assert run.returncode == 0, run.stderr
        assert (REPORT_KEY in inspect(tmp_path / level).metadata) == (level == "quick")
    planned = json.loads(
        run_cli("convert", str(source), "--type", "q8_0", "--dry-run", "--json").stdout
    )
    assert planned["bytes"] == (tmp_path / "quick").stat().st_size
    assert without_report(tmp_path / "quick") == (tmp_path / "off").read_bytes()
