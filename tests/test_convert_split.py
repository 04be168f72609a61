"""One model in several files: the same as llama-gguf-split's, and published together or not."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import families
import pytest

from edge_llama_convert import (
    ConvertError,
    OutputError,
    Plan,
    Progress,
    SplitLimit,
    convert,
    plan,
    publishing,
)
from edge_llama_convert.checks import Level
from edge_llama_convert.verify import verify
from edge_llama_convert.writer import take_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    RunCLI = Callable[..., subprocess.CompletedProcess[str]]

# sha256 of what llama-gguf-split makes of the Q4_K_M of family llama-gqa-tied-even;
# benchmarks/identical_gguf.py --split-max-size compares real models.
LLAMA_CPP = {
    SplitLimit.parse("1M", None): [
        "bc222b0936c69208d7c9e29dd644f43133268c797df0a5676ee91313fb8f2c53",
        "dc9df0326166e8bea0ebbea5a93012cdd37a3fd23d59851581886525bb2cd30c",
        "08178788da0780381fa3e05a66cf39ab15d55ace30a9df020400de1a8d248005",
        "80c741f86064c5982f8235e99c2356d5441a2d0f8f7f123e1143ff538741a6b6",
    ],
    SplitLimit.parse(None, 40): [
        "a946b2629c1b792f3fdd9e44f6176038e41afb7c39c67a504d1b2ab549ddfcf7",
        "6ca3272c0d5dcdf61f1a0ac888ae4ff8dc9b715873f26267def03fec75cd4ce2",
        "39edcaca61f4e156815b05da528d299efef0629c6a10fb3fc09524ae7c8e56bb",
    ],
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return families.build(tmp_path_factory.mktemp("split"), "llama-gqa-tied", "even")


@pytest.fixture
def work(source: Path) -> Plan:
    """A plan for three files."""
    return plan(source, split=SplitLimit(tensors=40))


def names(stem: str, count: int) -> list[str]:
    return [f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("limit", LLAMA_CPP, ids=str)
def test_the_files_equal_llama_gguf_split_s_byte_for_byte(
    source: Path, tmp_path: Path, limit: SplitLimit
) -> None:
    result = convert(plan(source, split=limit), tmp_path / "m.gguf")
    files = contents(tmp_path)
    digests = [hashlib.sha256(files[name]).hexdigest() for name in sorted(files)]
    assert sorted(files) == names("m", len(files))
    assert digests == LLAMA_CPP[limit]
    assert result.path.name == names("m", len(files))[0]
    assert result.plan.nbytes == sum(len(content) for content in files.values())


def test_joined_again_they_are_the_whole_file(source: Path, tmp_path: Path) -> None:
    convert(plan(source, recipe="bf16"), tmp_path / "whole.gguf")
    parts = convert(plan(source, recipe="bf16", split=SplitLimit(tensors=9)), tmp_path / "m.gguf")
    convert(plan(parts.path, recipe="bf16"), tmp_path / "joined.gguf")
    assert (tmp_path / "joined.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_parts_are_verified_before_they_have_names(work: Plan, tmp_path: Path) -> None:
    def spoil(first: Path) -> None:
        assert list(tmp_path.glob("*.gguf")) == []
        assert verify(work, first, Level.FULL).passed
        last = first.with_name(names("m", 3)[2])
        content = bytearray(last.read_bytes())
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
        last.write_bytes(content)
        report = verify(work, first, Level.FULL)
        assert not report.passed
        assert "blk.8." in report.checks[0].detail
        raise ConvertError("spoilt", hint="")

    with pytest.raises(ConvertError, match="spoilt"):
        convert(work, tmp_path / "m.gguf", check=spoil)
    assert list(tmp_path.iterdir()) == []


def test_existing_parts_are_kept_unless_forced(work: Plan, tmp_path: Path) -> None:
    second = tmp_path / names("m", 3)[1]
    second.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"m-00002-of-00003\.gguf: already exists"):
        convert(work, tmp_path / "m.gguf")
    assert contents(tmp_path) == {second.name: b"precious"}
    convert(work, tmp_path / "m.gguf", force=True)
    assert sorted(contents(tmp_path)) == names("m", 3)
    assert second.read_bytes()[:4] == b"GGUF"


def test_an_interrupt_leaves_the_old_parts_and_nothing_else(work: Plan, tmp_path: Path) -> None:
    old = dict.fromkeys(names("m", 3), b"precious")
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)

    def interrupt(step: Progress) -> None:
        if step.done > step.total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(work, tmp_path / "m.gguf", force=True, progress=interrupt)
    assert contents(tmp_path) == old


@pytest.mark.parametrize("force", [False, True])
def test_a_name_that_cannot_be_taken_takes_all_of_them_back(
    work: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    old = dict.fromkeys(names("m", 3), b"precious") if force else {}
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)

    def fail_at_the_first(temporary: Path, path: Path, *, force: bool) -> None:
        if "00001" in path.name:
            assert sorted(file.name for file in tmp_path.glob("*.gguf")) == names("m", 3)[1:]
            raise OSError(5, "Input/output error")
        take_name(temporary, path, force=force)

    monkeypatch.setattr(publishing, "take_name", fail_at_the_first)
    with pytest.raises(OutputError, match=r"m-00001-of-00003\.gguf: Input/output error"):
        convert(work, tmp_path / "m.gguf", force=force)
    assert contents(tmp_path) == old


def test_a_machine_that_dies_meanwhile_loses_no_file(source: Path, tmp_path: Path) -> None:
    script = """
        import os, sys
        from edge_llama_convert import SplitLimit, convert, plan, publishing
        take_name = publishing.take_name
        def die_at_the_first(temporary, path, *, force):
            if "00001" in path.name:
                os._exit(9)
            take_name(temporary, path, force=force)
        publishing.take_name = die_at_the_first
        convert(plan(sys.argv[1], split=SplitLimit(tensors=40)), sys.argv[2], force=True)
    """
    for name in names("m", 3):
        (tmp_path / name).write_bytes(b"old " + name.encode())
    command = [sys.executable, "-c", textwrap.dedent(script), str(source), str(tmp_path / "m.gguf")]
    assert subprocess.run(command, timeout=120, check=False).returncode == 9
    assert not (tmp_path / names("m", 3)[0]).exists()  # nobody opens a mixture
    replaced = contents(next(tmp_path.glob(".m-*.part")) / "replaced")
    assert replaced == {name: b"old " + name.encode() for name in names("m", 3)}


def test_a_file_of_the_source_is_never_overwritten(source: Path, tmp_path: Path) -> None:
    limit = SplitLimit(tensors=40)
    first = convert(plan(source, recipe="f16", split=limit), tmp_path / "m.gguf").path
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="is a file of the source"):
        convert(plan(first, recipe="q8_0", split=limit), tmp_path / "m.gguf", force=True)
    assert contents(tmp_path) == before


def test_a_disk_that_is_full_is_known_before_any_work(
    work: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_fd: int, _offset: int, size: int) -> None:
        if size == work.parts[2].nbytes:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_space)
    steps: list[Progress] = []
    with pytest.raises(OutputError, match=f"no space for {work.nbytes / 1e6:,.0f} MB"):
        convert(work, tmp_path / "m.gguf", progress=steps.append)
    assert steps == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "tensors", "fault"),
    [
        ("40", None, "'40' is no size"),
        ("0M", None, "'0M' is no size"),
        ("1.5G", None, "'1.5G' is no size"),
        (None, 0, "--split-max-tensors 0"),
        ("1G", 5, "exclude each other"),
    ],
)
def test_bad_limits(size: str | None, tensors: int | None, fault: str) -> None:
    with pytest.raises(ConvertError, match=fault):
        SplitLimit.parse(size, tensors)


def test_a_first_tensor_that_is_too_large(source: Path) -> None:
    with pytest.raises(ConvertError, match=r"output_norm.weight alone takes 1,024 bytes"):
        plan(source, split=SplitLimit(nbytes=1000))


def test_the_command_names_every_file(run_cli: RunCLI, source: Path, tmp_path: Path) -> None:
    command = ["convert", str(source), "--split-max-size", "1M", "--json", "-o", "out/m.gguf"]
    planned = json.loads(run_cli(*command, "--dry-run").stdout)
    assert not (tmp_path / "out").exists()
    run = run_cli(*command)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["files"] == planned["files"]
    assert result["path"] == f"out/{names('m', 4)[0]}"
    assert {file["path"]: file["bytes"] for file in result["files"]} == {
        f"out/{path.name}": path.stat().st_size for path in (tmp_path / "out").iterdir()
    }
    run = run_cli("verify", result["path"], "--against", str(source))
    assert run.returncode == 0, run.stderr
    assert "ok: forward pass" in run.stderr
    assert "report: verified quick" in run.stderr.replace('"', "")  # it is in the first file
    assert "not of this file" not in run.stderr
