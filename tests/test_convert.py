"""The whole conversion on real weights, and what it leaves behind when it fails."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import builders
import gguf
import numpy as np
import pytest

from edge_llama_convert import ConvertError, OutputError, Progress, Recipe, convert, plan
from edge_llama_convert.choose import choose_types
from edge_llama_convert.ggml import GGMLType
from edge_llama_convert.params import read_params
from edge_llama_convert.tensors import GGUFTensor
from scripts import run_script

# sha256 of what llama.cpp's two steps (convert_hf_to_gguf.py --outtype bf16, then llama-quantize,
# both as llama-cpp-python 0.3.36 vendors them) make of this very checkpoint;
# benchmarks/identical_gguf.py makes them again. The whole files are equal, not only the tensors.
LLAMA_CPP = {
    Recipe.Q4_K_M: "dd190b38465a054f947e4eabe4dc88a40e5f596a6afa813a93df911b8e729f25",
    Recipe.Q8_0: "f4b504c9548e53bc23f22bd5760d90e277fb01b6feaab1ff392bb33cae24600d",
    Recipe.F16: "1734c1d34bc502ad68180c77a723ffe8236c49527bec676735992918e5e72e8b",
    Recipe.BF16: "36d427141541779d08284e2ed5e568e7590390c66ece051b56c36b312ac88be2",
    Recipe.F32: "a769b5192b0ca00df7b6c07c62c9e16f7d73d04cd0e97084463471a30f6e4d7f",
}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("recipe", LLAMA_CPP, ids=lambda recipe: recipe.value)
def test_the_file_equals_llama_cpp_s_byte_for_byte(
    real_checkpoint: Path, tmp_path: Path, recipe: Recipe
) -> None:
    out = tmp_path / "out.gguf"
    convert(plan(real_checkpoint, recipe=recipe), out)
    assert sha256(out) == LLAMA_CPP[recipe]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_result_does_not_depend_on_threads(
    tiny_checkpoint: Path, tmp_path: Path, threads: int
) -> None:
    work = plan(tiny_checkpoint)
    convert(work, tmp_path / "a.gguf", threads=threads)
    convert(work, tmp_path / "b.gguf", threads=2)
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_shards_and_dtypes_give_the_same_values(tmp_path: Path) -> None:
    tensors = {
        name: values.astype(np.float16).astype(np.float32)
        for name, values in builders.tiny_tensors(
            {**builders.CONFIG, **builders.TINY_SHAPE}
        ).items()
    }
    outputs = []
    for i, (shards, dtype) in enumerate([(1, "F16"), (3, "F16"), (2, "F32")]):
        folder = tmp_path / f"{i}" / "same"
        folder.parent.mkdir()
        builders.build_tiny_checkpoint(folder, shards=shards, dtype=dtype, tensors=tensors)
        out = tmp_path / f"{i}.gguf"
        convert(plan(folder, recipe="f32"), out)
        outputs.append(out.read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]


def test_untied_output_biases_and_rope_factors(tmp_path: Path) -> None:
    changes = {
        "tie_word_embeddings": False,
        "attention_bias": True,
        "mlp_bias": True,
        "head_dim": 32,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    }
    source = builders.build_tiny_checkpoint(tmp_path / "x", changes=changes, dtype="F32")
    out = tmp_path / "out.gguf"
    convert(plan(source, recipe="f32"), out)
    reader = gguf.GGUFReader(out)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    config = {**builders.CONFIG, **builders.TINY_SHAPE, **changes}
    weights = builders.tiny_tensors(config)
    assert np.array_equal(tensors["output.weight"].data, weights["lm_head.weight"])
    assert tensors["rope_freqs.weight"].data.shape == (16,)
    bias = weights["model.layers.1.self_attn.q_proj.bias"]
    expected = bias.reshape(4, 2, 16).swapaxes(1, 2).ravel()
    assert np.array_equal(tensors["blk.1.attn_q.bias"].data, expected)
    down = weights["model.layers.0.mlp.down_proj.bias"]
    assert np.array_equal(tensors["blk.0.ffn_down.bias"].data, down)
    assert reader.fields["llama.attention.key_length"].contents() == 32


def test_yarn_is_written_as_metadata(tmp_path: Path) -> None:
    rope = {
        "rope_type": "yarn",
        "rope_theta": 1e4,
        "factor": 4.0,
        "original_max_position_embeddings": 2048,
    }
    source = builders.build_tiny_checkpoint(tmp_path / "x", changes={"rope_parameters": rope})
    convert(plan(source, recipe="f16"), tmp_path / "out.gguf")
    fields = gguf.GGUFReader(tmp_path / "out.gguf").fields
    assert fields["llama.rope.scaling.type"].contents() == "yarn"
    assert fields["llama.rope.scaling.factor"].contents() == 4.0
    assert fields["llama.rope.scaling.original_context_length"].contents() == 2048


def make_types(recipe: Recipe, **shape: int) -> dict[str, GGMLType]:
    """The types of layers' tensors in a model of the given shape."""
    config = {**builders.CONFIG, **builders.REAL_SHAPE, "head_dim": 128, **shape}
    params = read_params(config, Path("config.json"))
    width = params.hidden_size
    names = [
        f"blk.{layer}.{kind}.weight"
        for layer in range(params.n_layers)
        for kind in ("attn_v", "attn_output", "ffn_down", "ffn_up", "attn_norm")
    ]
    tensors = [GGUFTensor(name, (width, width)) for name in ["output.weight", *names]]
    kinds = choose_types(tensors, recipe, params)
    return {tensor.name: kind for tensor, kind in zip(tensors, kinds, strict=True)}


def test_q4_k_m_gives_more_bits_to_the_layers_llama_cpp_names() -> None:
    types = make_types(
        Recipe.Q4_K_M,
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    richer = [layer for layer in range(32) if types[f"blk.{layer}.ffn_down.weight"].name == "Q6_K"]
    # The list every published 32-layer Q4_K_M shows.
    assert richer == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    assert types["blk.4.ffn_up.weight"] is GGMLType.Q4_K
    assert types["blk.4.attn_norm.weight"] is GGMLType.F32


def test_the_70b_shape_gets_richer_values() -> None:
    types = make_types(
        Recipe.Q4_K_M,
        hidden_size=8192,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
    )
    assert {types[f"blk.{layer}.attn_v.weight"].name for layer in range(80)} == {"Q5_K", "Q6_K"}


def test_rows_that_do_not_fit_fall_back() -> None:
    types = make_types(Recipe.Q4_K_M)  # 576 is no multiple of 256, but of 32
    assert types["blk.5.ffn_up.weight"] is GGMLType.Q5_0
    odd = make_types(Recipe.Q4_K_M, hidden_size=80, num_attention_heads=1, num_key_value_heads=1)
    assert odd["blk.5.ffn_up.weight"] is GGMLType.F16


def test_an_unknown_type_lists_the_known_ones() -> None:
    with pytest.raises(ConvertError, match="unknown type") as caught:
        Recipe.parse("q9")
    assert "q4_k_m" in caught.value.hint


def test_progress_ends_at_the_total(tiny_checkpoint: Path, tmp_path: Path) -> None:
    steps: list[Progress] = []
    work = plan(tiny_checkpoint)
    convert(work, tmp_path / "out.gguf", progress=steps.append)
    assert steps[-1].done == steps[-1].total
    assert [step.done for step in steps] == sorted(step.done for step in steps)


def test_an_existing_file_is_kept_unless_forced(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    out.write_bytes(b"precious")
    work = plan(tiny_checkpoint)
    with pytest.raises(OutputError, match="already exists") as caught:
        convert(work, out)
    assert "--force" in caught.value.hint
    assert out.read_bytes() == b"precious"
    convert(work, out, force=True)
    assert out.read_bytes()[:4] == b"GGUF"


def test_a_failure_leaves_the_old_file_and_nothing_else(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.gguf"
    out.write_bytes(b"precious")

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(plan(tiny_checkpoint), out, force=True, progress=interrupt)
    assert out.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_as_output(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        convert(plan(tiny_checkpoint), tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are POSIX")
def test_a_pipe_or_device_is_not_replaced(tiny_checkpoint: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="not a regular file"):
        convert(plan(tiny_checkpoint), tmp_path / "pipe", force=True)
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.skipif(os.name != "posix", reason="file-size limits are POSIX")
def test_a_full_disk_is_one_clear_error_and_leaves_nothing(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    script = f"""
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
        from edge_llama_convert import OutputError, convert, plan
        work = plan({str(tiny_checkpoint)!r})
        try:
            convert(work, {str(tmp_path / "out" / "x.gguf")!r})
        except OutputError as error:
            print(error, "|", error.hint)
    """
    run = run_script(script)
    assert run.returncode == 0, run.stderr
    assert "no space for" in run.stdout
    assert "--type" in run.stdout
    assert list((tmp_path / "out").iterdir()) == []


def test_a_really_full_disk(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A filesystem of 3 MB that only the command sees."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mounts of one's own (unshare -rm)")
    out = tmp_path / "small"
    out.mkdir()
    python, source = shlex.quote(sys.executable), shlex.quote(str(tiny_checkpoint))
    script = f"""
        mount -t tmpfs -o size=3m tmpfs {out} && cd {out} && echo precious > x.gguf
        {python} -m edge_llama convert {source} -o x.gguf --force; echo "exit $?"
        {python} -m edge_llama convert {source} -o y.gguf; echo "exit $?"
        ls -A; cat x.gguf
    """
    run = subprocess.run(
        ["unshare", "-rm", "sh", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert run.stdout.split() == ["exit", "1", "exit", "1", "x.gguf", "precious"]
    lines = run.stderr.splitlines()
    assert len(lines) == 2
    assert all("no space for 5 MB (3 MB free" in line for line in lines)


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_ctrl_c_kill_and_a_closed_terminal_leave_nothing_behind(
    real_checkpoint: Path, tmp_path: Path, number: str
) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "edge_llama",
            "convert",
            str(real_checkpoint),
            "-o",
            str(tmp_path / "out" / "x.gguf"),
            "--threads",
            "1",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").glob(".x.gguf.*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.Signals[number])
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert list((tmp_path / "out").iterdir()) == []


def test_memory_is_bounded_by_the_chunks_not_the_model(
    real_checkpoint: Path, tmp_path: Path
) -> None:
    """Peak memory for the checkpoint of 270 MB stays far below the size of its weights."""
    script = f"""
        from edge_llama_convert import convert, plan
        print(convert(plan({str(real_checkpoint)!r}), {str(tmp_path / "x.gguf")!r}).peak_memory)
    """
    run = run_script(script, timeout=300)
    assert int(run.stdout) < 160e6


def test_a_model_card_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    source = builders.build_tiny_checkpoint(tmp_path / "x")
    (source / "README.md").write_text("---\nlicense: [mit\n---\n# x\n", encoding="utf-8")
    with pytest.raises(ConvertError, match=r"README\.md: its header is not valid YAML"):
        plan(source)
