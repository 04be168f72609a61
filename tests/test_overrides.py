"""Types and metadata that the user chooses."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import gguf
import pytest

from edge_llama_convert import ConvertError, TypeOverrides, convert, plan

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    RunCLI = Callable[..., subprocess.CompletedProcess[str]]

# (base type, --output-type, --embedding-type, --tensor-type ...) -> sha256 of what llama-quantize
# makes of the same checkpoint with --output-tensor-type, --token-embedding-type, --tensor-type.
LLAMA_QUANTIZE = [
    (
        ("q4_k_m", None, None, ["attn_v=q8_0"]),
        "2940447ecd020d8d07a30ccfdc33687e89b12a23192b295f32b64af909d17178",
    ),
    (
        (
            "q3_k_m",
            None,
            None,
            [r"blk\.(0|1|2|7)\.attn_v=q6_k", r"blk\.[0-4]\.ffn_down=iq4_xs"],
        ),
        "a7a08d3bfb0cce6a4c580d36ee8fc4edbc069810e416bb21111f494cb2aca735",
    ),
    (
        ("q4_k_m", "q5_1", None, []),
        "91dd29f036b18b94de9823babe2e865837957cc9d7348e1fca329bc031b77b91",
    ),
    (
        ("q5_k_m", None, "q4_0", ["ffn_=q5_k"]),
        "07d5f4cb22e40c678e203f41c05e8226e1c72c69b6e2e0e34f75b8f8f4b1fdaa",
    ),
]


@pytest.mark.parametrize(("choice", "digest"), LLAMA_QUANTIZE, ids=["v", "counted", "out", "embd"])
def test_overrides_mean_what_they_mean_to_llama_quantize(
    real_checkpoint: Path,
    tmp_path: Path,
    choice: tuple[str, str | None, str | None, list[str]],
    digest: str,
) -> None:
    recipe, output, embedding, tensors = choice
    out = tmp_path / "x.gguf"
    convert(
        plan(
            real_checkpoint,
            recipe=recipe,
            overrides=TypeOverrides.parse(output, embedding, tensors),
        ),
        out,
    )
    assert hashlib.sha256(out.read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("output", "embedding", "tensors", "message"),
    [
        ("q9", None, [], "unknown tensor type 'q9'"),
        (None, None, ["attn_v"], "not of the form"),
        (None, None, ["=q8_0"], "not of the form"),
        (None, None, ["(=q8_0"], "unterminated"),
    ],
)
def test_wrong_overrides_are_named(
    output: str | None, embedding: str | None, tensors: list[str], message: str
) -> None:
    with pytest.raises(ConvertError, match=message) as caught:
        TypeOverrides.parse(output, embedding, tensors)
    assert caught.value.hint


def test_overrides_that_cannot_apply_are_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(ConvertError, match="no effect"):
        plan(
            tiny_checkpoint, recipe="f16", overrides=TypeOverrides.parse(None, None, ["attn=q8_0"])
        )
    with pytest.raises(ConvertError, match="no multiple of 256"):
        plan(tiny_checkpoint, overrides=TypeOverrides.parse(None, "q4_k", []))


def test_metadata(tiny_checkpoint: Path, tmp_path: Path) -> None:
    chosen = {
        "general.name": "Tom",
        "general.author": "me",
        "llama.rope.freq_base": "5e5",
        "llama.context_length": "99",
        "tokenizer.ggml.add_bos_token": "true",
    }
    convert(plan(tiny_checkpoint, metadata=chosen), tmp_path / "x.gguf")
    fields = gguf.GGUFReader(tmp_path / "x.gguf").fields
    found = {key: fields[key].contents() for key in chosen}
    assert found == {
        "general.name": "Tom",
        "general.author": "me",
        "llama.rope.freq_base": 5e5,
        "llama.context_length": 99,
        "tokenizer.ggml.add_bos_token": True,
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("nothing.like.it", "x"),
        ("llama.context_length", "many"),
        ("llama.context_length", "-1"),
        ("tokenizer.ggml.add_bos_token", "maybe"),
        ("tokenizer.ggml.tokens", "x"),
    ],
)
def test_wrong_metadata_is_named(tiny_checkpoint: Path, key: str, value: str) -> None:
    with pytest.raises(ConvertError, match=key):
        plan(tiny_checkpoint, metadata={key: value})


def test_a_dry_run_writes_nothing(run_cli: RunCLI, tiny_checkpoint: Path, tmp_path: Path) -> None:
    shown = run_cli("convert", str(tiny_checkpoint), "--dry-run", "--type", "q8_0")
    assert shown.returncode == 0
    assert "bits per weight" in shown.stdout
    planned = json.loads(
        run_cli("convert", str(tiny_checkpoint), "--dry-run", "--json", "--type", "q8_0").stdout
    )
    assert list(tmp_path.iterdir()) == []
    made = json.loads(run_cli("convert", str(tiny_checkpoint), "--json", "--type", "q8_0").stdout)
    assert made.pop("seconds") > 0
    assert made.pop("verification")["passed"]
    assert made == planned
    assert (tmp_path / planned["path"]).stat().st_size == planned["bytes"]


def test_a_file_is_verified_with_its_own_types(
    run_cli: RunCLI, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "x.gguf")
    made = run_cli(
        *("convert", str(tiny_checkpoint), "-o", out, "--type", "q8_0"),
        *("--tensor-type", "attn_v=q4_0", "--metadata", "general.name=Another name altogether"),
    )
    assert made.returncode == 0, made.stderr
    checked = run_cli("verify", out, "--against", str(tiny_checkpoint))
    assert checked.returncode == 0, checked.stderr
