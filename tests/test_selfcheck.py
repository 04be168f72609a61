"""``edge-llama verify FILE``: what is found out without the checkpoint."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import builders
import families
import gguf
import numpy as np
import pytest
from reports import convert_with_report

from edge_llama.reading import Reading
from edge_llama_convert.checks import Level, Report
from edge_llama_convert.selfcheck import examine

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    RunCLI = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("selfcheck")
    convert_with_report(families.build(folder, "mixtral-4", "even"), folder / "x.gguf")
    return folder / "x.gguf"


def spoiled(made: Path, out: Path, change: Callable[[gguf.GGUFReader], None]) -> Path:
    out.write_bytes(made.read_bytes())
    reader = gguf.GGUFReader(out, "r+")
    change(reader)
    reader.data.flush()
    return out


def outcome(report: Report) -> dict[str, bool]:
    return {check.name: check.passed for check in report.checks}


@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_family_passes(tmp_path: Path, family: str) -> None:
    path = tmp_path / "x.gguf"
    convert_with_report(families.build(tmp_path, family, "even"), path, recipe="q2_k")
    with Reading(path) as reading:
        report = examine(path, Level.FULL, reading)
    assert outcome(report) == {"values": True, "tokenizer": True, "forward pass": True}
    assert not any(check.noteworthy for check in report.checks)
    assert report.checks[-1].figures["mean_cosine"] > 0.99


@pytest.mark.model
def test_a_file_of_another_maker(run_cli: RunCLI, embedded: Path) -> None:
    run = run_cli("verify", str(embedded), "--quick")
    assert run.returncode == 0, run.stderr
    lines = run.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["report", "ok", "ok"]
    assert "none is stored" in lines[0]


def test_the_command_shows_the_stored_report(run_cli: RunCLI, made: Path) -> None:
    shown = run_cli("verify", str(made))
    assert shown.returncode == 0, shown.stderr
    assert "report: made from name: mixtral-4-even" in shown.stderr
    assert "report: verified quick\nreport: weights: passed: true, tensors: 2" in shown.stderr
    assert "ok: forward pass: mean cosine" in shown.stderr
    machine = json.loads(run_cli("verify", str(made), "--json").stdout)
    assert machine["passed"]
    assert machine["report"]["source"] == {"name": "mixtral-4-even"}
    assert [check["name"] for check in machine["checks"]][-1] == "forward pass"


def test_nan_is_found_and_the_command_fails(run_cli: RunCLI, made: Path, tmp_path: Path) -> None:
    def change(reader: gguf.GGUFReader) -> None:
        tensor = next(each for each in reader.tensors if each.name == "blk.1.ffn_up_exps.weight")
        assert tensor.tensor_type == gguf.GGMLQuantizationType.Q4_K
        tensor.data.reshape(-1)[-144:-142] = [0xFF, 0x7F]  # the scale of the last block

    path = spoiled(made, tmp_path / "nan.gguf", change)
    run = run_cli("verify", str(path), "--json")
    assert run.returncode == 1
    assert json.loads(run.stdout)["passed"] is False
    (line,) = run.stderr.splitlines()
    assert "nan.gguf: values: blk.1.ffn_up_exps.weight (Q4_K) holds NaN or Inf" in line


def test_a_vocabulary_that_loses_text_is_found(tiny_checkpoint: Path, tmp_path: Path) -> None:
    def change(reader: gguf.GGUFReader) -> None:
        field = reader.fields["tokenizer.ggml.tokens"]
        for i in field.data:
            if bytes(field.parts[i]).startswith("\u0120".encode()):  # a space, and what follows it
                field.parts[i][0] = 0xC9  # now a character of no byte

    convert_with_report(tiny_checkpoint, tmp_path / "x.gguf")
    path = spoiled(tmp_path / "x.gguf", tmp_path / "y.gguf", change)
    with Reading(path) as reading:
        report = examine(path, Level.FULL, reading)
    assert outcome(report) == {"values": True, "tokenizer": False}


def test_a_runtime_that_computes_something_else_is_found(made: Path) -> None:
    class Shifted(Reading):
        def logits(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
            return np.roll(super().logits(tokens), 1, axis=1)

    with Shifted(made) as reading:
        assert outcome(examine(made, Level.FULL, reading))["forward pass"] is False


def test_keys_that_make_no_sense_are_no_reason_to_pass(tmp_path: Path) -> None:
    def change(reader: gguf.GGUFReader) -> None:
        reader.fields["llama.rope.scaling.factor"].parts[-1][:] = -4.0

    convert_with_report(families.build(tmp_path, "llama-yarn", "even"), tmp_path / "x.gguf")
    path = spoiled(tmp_path / "x.gguf", tmp_path / "y.gguf", change)
    with Reading(path) as reading:
        check = examine(path, Level.FULL, reading).checks[-1]
    assert not check.passed
    assert "llama.rope.scaling.factor = -4.0, not a number from 0" in check.detail


def test_a_cut_file_and_one_that_is_none(run_cli: RunCLI, made: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(made.read_bytes()[:-100_000])
    (tmp_path / "text.gguf").write_text("hello")
    for name, message in (("cut", "truncated"), ("text", "not a GGUF")):
        run = run_cli("verify", f"{name}.gguf")
        assert run.returncode == 1
        assert message in run.stderr
        assert len(run.stderr.splitlines()) == 1


def test_a_checkpoint_that_is_another_one(run_cli: RunCLI, made: Path, tmp_path: Path) -> None:
    source = made.parent / "mixtral-4-even"
    config = json.loads((source / "config.json").read_text())
    other = builders.tiny_tensors(config, seed=1)
    builders.write_safetensors(
        tmp_path / "model.safetensors", {name: ("F32", each) for name, each in other.items()}
    )
    for file in source.iterdir():
        if file.name != "model.safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    run = run_cli("verify", str(made), "--against", str(tmp_path), "--quick")
    assert run.returncode == 1
    assert 'note: inputs: the file was made from other inputs; different: "model.s' in run.stderr
    assert "FAILED: weights" in run.stderr
