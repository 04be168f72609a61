"""The proof itself: it accepts what is right, and notices what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import builders
import families
import gguf
import numpy as np
import pytest

from edge_llama.reading import Reading
from edge_llama_convert import VerificationError, convert, plan
from edge_llama_convert.originals import OriginalWeights
from edge_llama_convert.reference import forward
from edge_llama_convert.rows import open_sources
from edge_llama_convert.verify import Level, Report, require, verify

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from edge_llama_convert import Plan

    RunCLI = Callable[..., subprocess.CompletedProcess[str]]

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def real(real_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    work = plan(real_checkpoint, recipe="q8_0")
    out = tmp_path_factory.mktemp("verify") / "x.gguf"
    convert(work, out)
    return work, out


def report(work: Plan, path: Path, level: Level = Level.FULL) -> Report:
    with Reading(path) as reading:
        return verify(work, path, level, reading)


def failed(result: Report) -> set[str]:
    return {check.name for check in result.checks if not check.passed}


def test_the_reference_forward_pass_agrees_with_transformers(real: tuple[Plan, Path]) -> None:
    work, _ = real
    reference = np.load(DATA / "smollm2_logits.npz")
    tensors = [target.tensor for target in work.layout.targets]
    with open_sources(tensors) as files:
        weights = OriginalWeights(tensors, files)
        for i in range(2):
            logits = forward(weights, work.params, reference[f"ids_{i}"].tolist())
            assert logits.argmax(axis=1).tolist() == reference[f"top_{i}"].tolist()
            ours = logits[:, reference["columns"]]
            # The excerpt is stored in float16, so half a thousandth of 20 is its own rounding.
            assert np.abs(ours - reference[f"logits_{i}"].astype(np.float32)).max() < 0.02


@pytest.mark.model
@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
def test_a_right_conversion_passes(real: tuple[Plan, Path], level: Level) -> None:
    result = report(*real, level)
    assert result.passed
    require(result, real[1])
    names = [check.name for check in result.checks]
    assert names == ["weights", "tokenizer", "forward pass"][: 3 if level is Level.FULL else 2]
    assert not any(check.noteworthy for check in result.checks)


def tampered(
    real: tuple[Plan, Path], out: Path, change: Callable[[gguf.GGUFReader], None]
) -> tuple[Plan, Path]:
    work, path = real
    out.write_bytes(path.read_bytes())
    reader = gguf.GGUFReader(out, "r+")
    change(reader)
    reader.data.flush()
    return work, out


def tensor(reader: gguf.GGUFReader, name: str) -> gguf.ReaderTensor:
    return next(each for each in reader.tensors if each.name == name)


@pytest.mark.model
def test_rows_in_the_wrong_order_are_noticed(real: tuple[Plan, Path], tmp_path: Path) -> None:
    def change(reader: gguf.GGUFReader) -> None:
        data = tensor(reader, "blk.7.attn_q.weight").data
        data[:] = data[::-1].copy()

    result = report(*tampered(real, tmp_path / "x.gguf", change))
    assert "weights" in failed(result)
    with pytest.raises(VerificationError, match=r"blk\.7\.attn_q\.weight \(Q8_0\) is off by"):
        require(result, tmp_path / "x.gguf")


@pytest.mark.model
def test_a_swapped_pair_of_tokens_is_noticed(real: tuple[Plan, Path], tmp_path: Path) -> None:
    def change(reader: gguf.GGUFReader) -> None:
        field = reader.fields["tokenizer.ggml.tokens"]
        texts = {bytes(field.parts[i]).decode(): field.parts[i] for i in field.data[:2000]}
        one, other = texts["\u0120the"], texts["\u0120and"]
        one[:], other[:] = other.copy(), one.copy()

    assert "tokenizer" in failed(report(*tampered(real, tmp_path / "x.gguf", change)))


@pytest.mark.model
def test_a_wrong_rope_base_is_noticed(real: tuple[Plan, Path], tmp_path: Path) -> None:
    def change(reader: gguf.GGUFReader) -> None:
        reader.fields["llama.rope.freq_base"].parts[-1][:] = 10.0

    assert "forward pass" in failed(report(*tampered(real, tmp_path / "x.gguf", change)))


def test_a_failed_check_means_no_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        assert path.is_file()
        raise VerificationError("no", hint="no")

    with pytest.raises(VerificationError):
        convert(plan(tiny_checkpoint), tmp_path / "x.gguf", check=refuse)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.model
@pytest.mark.parametrize(
    "changes",
    [
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False},
        {"head_dim": 32, "num_key_value_heads": 1},
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            }
        },
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    ],
    ids=["biases", "grouped", "llama3", "linear"],
)
def test_llama_cpp_computes_what_the_architecture_says(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    """Random models of every shape: llama.cpp's logits equal the reference's."""
    source = builders.build_tiny_checkpoint(tmp_path / "tiny", changes=changes, dtype="F32")
    work = plan(source, recipe="f32")
    convert(work, tmp_path / "x.gguf")
    result = report(work, tmp_path / "x.gguf")
    assert result.passed, result


@pytest.mark.model
@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_family_is_proven(tmp_path: Path, family: str) -> None:
    work = plan(families.build(tmp_path, family, "even"), recipe="f32")
    convert(work, tmp_path / "x.gguf")
    result = report(work, tmp_path / "x.gguf")
    assert result.passed, result
    assert [check.name for check in result.checks] == ["weights", "tokenizer", "forward pass"]


@pytest.mark.model
def test_the_commands(run_cli: RunCLI, tiny_checkpoint: Path) -> None:
    made = run_cli("convert", str(tiny_checkpoint), "--type", "q8_0", "--verify", "full")
    assert made.returncode == 0, made.stderr
    assert "ok: forward pass" in made.stderr
    name = Path(made.stdout.strip()).name
    checked = run_cli("verify", name, "--against", str(tiny_checkpoint))
    assert checked.returncode == 0, checked.stderr
    assert checked.stderr.count("ok: ") == 3
    assert run_cli("convert", str(tiny_checkpoint), "--verify", "maybe").returncode == 2
