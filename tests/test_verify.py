"""The proof itself: it accepts what is right, and notices what is wrong."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import builders
import families
import gguf
import numpy as np
import pytest

from edge_llama.cli.proof import Proof
from edge_llama.errors import ModelFileError
from edge_llama.reading import Reading
from edge_llama_convert import SplitLimit, VerificationError, convert, plan
from edge_llama_convert.checks import Level, Report, require
from edge_llama_convert.reference import forward
from edge_llama_convert.rotation import rotation_of
from edge_llama_convert.verify import verify
from edge_llama_convert.weights import open_weights

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from edge_llama_convert import Plan, Progress

    RunCLI = Callable[..., subprocess.CompletedProcess[str]]

DATA = Path(__file__).parent / "data"
NAMES = ["weights", "tokenizer", "hyper-parameters", "forward pass"]


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
    with open_weights(tensors) as weights:
        for i in range(2):
            tokens = reference[f"ids_{i}"].tolist()
            logits = forward(weights, work.params, rotation_of(work.params), tokens)
            assert logits.argmax(axis=1).tolist() == reference[f"top_{i}"].tolist()
            ours = logits[:, reference["columns"]]
            # The excerpt is stored in float16, so half a thousandth of 20 is its own rounding.
            assert np.abs(ours - reference[f"logits_{i}"].astype(np.float32)).max() < 0.02


@pytest.mark.model
@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
def test_a_right_conversion_passes(real: tuple[Plan, Path], level: Level) -> None:
    result = report(*real, level)
    assert result.passed
    require(result, real[1], hint="-")
    names = [check.name for check in result.checks]
    assert names == NAMES[: 4 if level is Level.FULL else 2]
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
        require(result, tmp_path / "x.gguf", hint="-")


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

    result = report(*tampered(real, tmp_path / "x.gguf", change))
    assert failed(result) == {"hyper-parameters", "forward pass"}


def test_a_failed_check_means_no_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        assert path.is_file()
        raise VerificationError("no", hint="no")

    with pytest.raises(VerificationError):
        convert(plan(tiny_checkpoint), tmp_path / "x.gguf", check=refuse)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("split", [None, SplitLimit(tensors=9)], ids=["whole", "split"])
def test_a_wrong_header_ends_a_conversion_before_its_tensors_are_written(
    tiny_checkpoint: Path, tmp_path: Path, split: SplitLimit | None
) -> None:
    looked, done = threading.Event(), list[bool]()

    def refuse(path: Path) -> None:
        with Reading(path) as reading:
            text = reading.detokenize(reading.tokenize("Hello"))
        looked.set()
        raise VerificationError(f"not like {text!r}", hint="no")

    def advance(step: Progress) -> None:
        assert looked.wait(60)
        time.sleep(0.01)
        done.append(step.done == step.total)

    work = plan(tiny_checkpoint, split=split)
    with pytest.raises(VerificationError, match="not like b'Hello'"):
        convert(work, tmp_path / "x.gguf", progress=advance, check_header=refuse)
    assert done
    assert not any(done)
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_file_that_was_asked_for(tiny_checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "wanted.gguf"
    for temporary in (tmp_path / ".x.part", tmp_path / ".y.part" / "wanted.gguf"):
        temporary.parent.mkdir(exist_ok=True)
        temporary.write_bytes(b"junk")
        with pytest.raises(ModelFileError) as caught:
            Proof(plan(tiny_checkpoint), target, "quick").of_header(temporary)
        assert str(caught.value).startswith(f"{target}: ")
        assert ".part" not in str(caught.value)


YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}


def build_sharp(folder: Path, changes: dict[str, object]) -> Path:
    """A random float32 model whose attention prefers some positions, so that rope matters."""
    config = {**builders.CONFIG, **builders.TINY_SHAPE, **changes}
    weights = builders.tiny_tensors(config)
    for name, values in weights.items():
        if "norm" in name:
            values[:] = 1.0
        elif "self_attn" in name:
            values[:] = 4 * values
    return builders.build_tiny_checkpoint(folder, changes=changes, dtype="F32", tensors=weights)


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
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}},
        {"rope_parameters": YARN},
        {"rope_parameters": {**YARN, "attention_factor": 1.6}},
        {"rope_parameters": {**YARN, "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 0.5}},
    ],
    ids=[
        *("biases", "grouped", "llama3", "linear", "dynamic"),
        *("yarn", "yarn-attention", "yarn-mscale"),
    ],
)
def test_llama_cpp_computes_what_the_architecture_says(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    """Random models of every shape: llama.cpp's logits equal the reference's."""
    work = plan(build_sharp(tmp_path / "tiny", changes), recipe="f32")
    convert(work, tmp_path / "x.gguf")
    result = report(work, tmp_path / "x.gguf")
    assert result.passed, result
    assert result.checks[-1].figures["mean_kl_divergence"] < 1e-5


@pytest.fixture(scope="module")
def yarn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    folder = tmp_path_factory.mktemp("yarn")
    rope = {**YARN, "attention_factor": 1.6}
    work = plan(build_sharp(folder / "tiny", {"rope_parameters": rope}), recipe="f32")
    convert(work, folder / "x.gguf")
    return work, folder / "x.gguf"


@pytest.mark.model
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("factor", 8.0, "rope turns 7 of 8 pairs otherwise, e.g. pair 1 by 0.1779 per position"),
        ("original_context_length", 64, "rope turns 2 of 8 pairs otherwise"),
        ("attn_factor", 1.0, "rope's scale is 1.1386, 1.6000 expected"),
    ],
)
def test_wrong_rope_scaling_is_noticed(
    yarn: tuple[Plan, Path], tmp_path: Path, key: str, value: float, message: str
) -> None:
    def change(reader: gguf.GGUFReader) -> None:
        reader.fields[f"llama.rope.scaling.{key}"].parts[-1][:] = value

    result = report(*tampered(yarn, tmp_path / "x.gguf", change))
    assert failed(result) == {"hyper-parameters", "forward pass"}
    with pytest.raises(VerificationError, match=re.escape(message)):
        require(result, tmp_path / "x.gguf", hint="-")


@pytest.mark.model
def test_a_wrong_epsilon_is_noticed(yarn: tuple[Plan, Path], tmp_path: Path) -> None:
    def change(reader: gguf.GGUFReader) -> None:
        reader.fields["llama.attention.layer_norm_rms_epsilon"].parts[-1][:] = 1.1e-5

    result = report(*tampered(yarn, tmp_path / "x.gguf", change))
    assert failed(result) == {"hyper-parameters"}  # too little to show in 16 positions


@pytest.mark.model
@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_family_is_proven(tmp_path: Path, family: str) -> None:
    work = plan(families.build(tmp_path, family, "even"), recipe="f32")
    convert(work, tmp_path / "x.gguf")
    result = report(work, tmp_path / "x.gguf")
    assert result.passed, result
    assert [check.name for check in result.checks] == NAMES


@pytest.mark.model
@pytest.mark.parametrize("family", ["llama3", "mixtral-4"])
def test_a_gguf_is_proven_against_the_gguf_it_came_from(tmp_path: Path, family: str) -> None:
    convert(plan(families.build(tmp_path, family, "even"), recipe="bf16"), tmp_path / "a.gguf")
    work = plan(tmp_path / "a.gguf", recipe="q8_0")
    convert(work, tmp_path / "b.gguf")
    assert report(work, tmp_path / "b.gguf").passed


@pytest.mark.model
def test_the_commands(run_cli: RunCLI, tiny_checkpoint: Path) -> None:
    made = run_cli("convert", str(tiny_checkpoint), "--type", "q8_0", "--verify", "full")
    assert made.returncode == 0, made.stderr
    assert "ok: forward pass" in made.stderr
    name = Path(made.stdout.strip()).name
    checked = run_cli("verify", name, "--against", str(tiny_checkpoint))
    assert checked.returncode == 0, checked.stderr
    assert checked.stderr.count("ok: ") == 5
    assert run_cli("convert", str(tiny_checkpoint), "--verify", "maybe").returncode == 2
