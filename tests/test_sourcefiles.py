"""Sources that are not whole or do not hold still, and outputs that cannot be written."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import builders
import numpy as np
import pytest

from edge_llama_convert import ConvertError, OutputError, Progress, SourceError, convert, plan
from edge_llama_convert.safetensors import read_header
from edge_llama_convert.sourcefiles import MIN_HOLE_BYTES, check_no_holes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return builders.build_tiny_checkpoint(tmp_path / "tiny")


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- Files with holes ----------------------------------------------------------------------------


def write_sparse(path: Path, content: bytes, missing: tuple[int, int]) -> Path:
    """Write ``content`` but for the bytes from/to ``missing``, at its full size."""
    begin, end = missing
    with path.open("wb") as file:
        file.write(content[:begin])
        file.seek(end)
        file.write(content[end:])
        file.truncate(len(content))
    if path.stat().st_blocks * 512 >= len(content):
        pytest.skip("this filesystem has no sparse files")
    return path


@pytest.mark.skipif(not hasattr(os, "SEEK_HOLE"), reason="no SEEK_HOLE on this system")
@pytest.mark.parametrize("part", ["middle", "tail", "all", "last bytes"])
def test_a_preallocated_download_is_refused(tiny: Path, part: str) -> None:
    weights = tiny / "model.safetensors"
    content = weights.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    last = len(content)
    missing = {
        "middle": (2_000_000, 2_000_000 + MIN_HOLE_BYTES + 8192),
        "tail": (last - 30_000, last),
        "last bytes": (last // 4096 * 4096 - 4096, last),
        "all": (-(-start // 4096) * 4096, last),
    }[part]
    write_sparse(weights, content, missing)
    with pytest.raises(SourceError, match="not completely written: data of") as caught:
        plan(tiny)
    assert "cp --sparse=never" in caught.value.hint


@pytest.mark.skipif(not hasattr(os, "SEEK_HOLE"), reason="no SEEK_HOLE on this system")
def test_a_sparse_copy_of_whole_weights_is_accepted(tmp_path: Path) -> None:
    tensors = builders.tiny_tensors({**builders.CONFIG, **builders.TINY_SHAPE})
    tensors["model.embed_tokens.weight"][-2000:] = 0  # unused rows: 256 KB of zeros
    path = builders.build_tiny_checkpoint(tmp_path / "x", tensors=tensors)
    weights = path / "model.safetensors"
    content = weights.read_bytes()
    ref = read_header(weights)["model.embed_tokens.weight"]
    end = ref.offset + ref.nbytes
    write_sparse(weights, content, (-(-(end - 200_000) // 4096) * 4096, end // 4096 * 4096))
    assert weights.read_bytes() == content
    convert(plan(path, recipe="q8_0"), tmp_path / "out.gguf")


def test_a_hole_outside_the_tensors_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    builders.write_safetensors(path, {"w": ("F32", np.ones((64, 64), np.float32))})
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 10 * MIN_HOLE_BYTES)
    check_no_holes(read_header(path).values())


# --- Files that change ---------------------------------------------------------------------------


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" ")


def _rewrite(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("change", [_grow, _rewrite, Path.unlink, Path.touch])
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("when", ["before", "during"])
def test_a_source_that_changes_is_an_error(
    tiny: Path, tmp_path: Path, change: Callable[[Path], None], name: str, when: str
) -> None:
    work = plan(tiny, recipe="q8_0")
    if when == "before":
        change(tiny / name)

    changed: list[str] = []

    def progress(step: Progress) -> None:
        if when == "during" and not changed:
            changed.append(step.tensor)
            change(tiny / name)

    with pytest.raises(SourceError, match=f"{name}: changed since"):
        convert(work, tmp_path / "out" / "x.gguf", progress=progress)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_a_source_that_disappears_is_not_the_output_s_fault(tiny: Path, tmp_path: Path) -> None:
    import dataclasses

    work = dataclasses.replace(plan(tiny), files=())
    (tiny / "model.safetensors").unlink()
    with pytest.raises(SourceError, match=r"model\.safetensors: No such file"):
        convert(work, tmp_path / "out.gguf")


# --- Links ---------------------------------------------------------------------------------------


def test_links_in_a_circle(tiny: Path, tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(SourceError, match="leads nowhere, or in a circle"):
        plan(loop)
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        kept = (tiny / name).read_bytes()
        (tiny / name).unlink()
        (tiny / name).symlink_to(name)
        with pytest.raises(ConvertError, match=name.replace(".", r"\.")):
            plan(tiny)
        (tiny / name).unlink()
        (tiny / name).write_bytes(kept)
    work = plan(tiny)
    for output in (loop, loop / "x.gguf"):
        with pytest.raises(OutputError, match="loop"):
            convert(work, output)
    convert(work, loop, force=True)  # replaces the link, as it would a file
    assert loop.read_bytes()[:4] == b"GGUF"
    assert not loop.is_symlink()


def test_linked_files_as_hubs_store_them(tiny: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    shutil.move(tiny, blobs)
    tiny.mkdir()
    for file in blobs.iterdir():
        (tiny / file.name).symlink_to(Path("..") / "blobs" / file.name)
    convert(plan(tiny, recipe="q8_0"), tmp_path / "out.gguf")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json"])
def test_a_pipe_is_not_waited_for(tiny: Path, name: str) -> None:
    (tiny / ("config.json" if name == "config.json" else "model.safetensors")).unlink()
    os.mkfifo(tiny / name)
    with pytest.raises(SourceError, match="not a regular file"):
        plan(tiny)


# --- Outputs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("kind", ["itself", "symlink", "hard link", "dotted"])
def test_the_source_is_never_overwritten(tiny: Path, tmp_path: Path, kind: str, name: str) -> None:
    output = tiny / name
    if kind == "symlink":
        output = tmp_path / "out.gguf"
        output.symlink_to(tiny / name)
    elif kind == "hard link":
        output = tmp_path / "out.gguf"
        output.hardlink_to(tiny / name)
    elif kind == "dotted":
        output = tiny / ".." / "tiny" / name
    before = everything(tmp_path)
    for force in (False, True):
        with pytest.raises(OutputError, match="is a file of the source"):
            convert(plan(tiny), output, force=force)
    assert everything(tmp_path) == before


def test_a_gguf_is_not_converted_onto_itself(tiny: Path, tmp_path: Path) -> None:
    source = tmp_path / "x-q8_0.gguf"
    convert(plan(tiny, recipe="q8_0"), source)
    before = source.read_bytes()
    with pytest.raises(OutputError, match="is a file of the source"):
        convert(plan(source, recipe="q8_0"), source, force=True)
    assert source.read_bytes() == before


def test_a_file_where_a_folder_is_needed(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    work = plan(tiny)
    for output in ("file/x.gguf", "file/sub/x.gguf"):
        for force in (False, True):
            with pytest.raises(OutputError, match="file is not a folder"):
                convert(work, tmp_path / output, force=force)
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_a_name_too_long(tiny: Path, tmp_path: Path) -> None:
    for length in (250, 300):  # too long with the temporary suffix; too long in itself
        with pytest.raises(OutputError, match="too long"):
            convert(plan(tiny), tmp_path / ("x" * length))
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Root may write anywhere, so it steps down for the test."""
    if not hasattr(os, "geteuid"):
        pytest.skip("permissions are POSIX")
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_folder(tiny: Path, request: pytest.FixtureRequest) -> None:
    work = plan(tiny)
    folder = Path(tempfile.mkdtemp(prefix="edge-llama-test-"))  # reachable for every user
    try:
        (folder / "inner").mkdir()
        folder.chmod(0o555)
        request.getfixturevalue("ordinary_user")
        for output in (folder / "x.gguf", folder / "new" / "x.gguf"):
            with pytest.raises(OutputError, match="no permission to write to"):
                convert(work, output)
        assert [path.name for path in folder.iterdir()] == ["inner"]
    finally:
        if hasattr(os, "geteuid") and os.getuid() == 0:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)
