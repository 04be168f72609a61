"""Models from a hub to the folder for models, listed there, and deleted again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import smallmodels
from hubserver import Hub, Model, use
from huggingface_hub import hf_hub_download

from edge_llama_convert import Fetching, HubError
from edge_llama_convert.hub import HubId, open_repo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    RunCLI = Callable[..., subprocess.CompletedProcess[str]]

ID = "org/Tiny-GGUF"
FILES = (
    "tiny-Q8_0.gguf",
    "tiny-Q5_K_M.gguf",
    "mmproj-tiny-f16.gguf",
    "BF16/tiny-BF16-00001-of-00002.gguf",
    "BF16/tiny-BF16-00002-of-00002.gguf",
    "F16/tiny-F16-00001-of-00002.gguf",  # whose other part is missing
    "README.md",
)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A repository of GGUFs; the two parts are no model, but nobody opens them."""
    folder = tmp_path / "published"
    for number, name in enumerate(FILES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        model = smallmodels.small_llama()
        model.set("general.name", "str", f"tiny {number}")
        (folder / name).write_bytes(model.to_bytes())
    return folder


@pytest.fixture
def hub(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub({ID: Model(published)})
    use(hub, tmp_path / "cache", monkeypatch)
    yield hub
    hub.close()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The user's own folder, as the commands of ``run_cli`` see it."""
    return tmp_path / "home" / "models"


def names(folder: Path) -> list[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if path.suffix != ".lock")


def test_one_of_several_from_the_hub_to_its_deletion(
    run_cli: RunCLI, hub: Hub, published: Path, models: Path
) -> None:
    run = run_cli("pull", f"{ID}:q8_0")
    assert run.returncode == 0, run.stderr
    path = models / ID / "tiny-Q8_0.gguf"
    assert run.stdout == f"{path}\n"
    assert path.read_bytes() == (published / path.name).read_bytes()
    assert names(models) == [f"{ID}/{path.name}"]
    assert {request.name for request in hub.requests if request.place == "storage"} == {path.name}
    assert json.loads(run_cli("info", ID, "--json").stdout)["name"] == "tiny 0"
    listed = json.loads(run_cli("models", "--json").stdout)
    assert (listed[0]["name"], listed[0]["origin"], listed[0]["fits"]) == (ID, ID, True)
    # Again: compared, and nothing is sent.
    before = hub.sent(path.name)
    again = json.loads(run_cli("pull", ID, "--file", path.name, "--json").stdout)
    assert again["path"] == str(path)
    assert hub.sent(path.name) == before == path.stat().st_size
    # What is not what the hub has is replaced.
    path.write_bytes(b"x" * path.stat().st_size)
    assert run_cli("pull", f"{ID}:tiny-Q8_0").returncode == 0
    assert path.read_bytes() == (published / path.name).read_bytes()
    removed = run_cli("rm", ID, "--yes")
    assert removed.returncode == 0, removed.stderr
    assert not (models / "org").exists()


def test_the_usual_type_and_the_current_folder_are_chosen_by_default(
    run_cli: RunCLI, hub: Hub, published: Path, tmp_path: Path
) -> None:
    ambiguous = run_cli("pull", ID)
    assert (ambiguous.returncode, ambiguous.stdout) == (1, "")
    assert len(ambiguous.stderr.splitlines()) == 1
    for part in ("3 models", f"{ID}:TYPE", "Q8_0 (", "Q5_K_M (", "BF16 ("):
        assert part in ambiguous.stderr
    assert "F16/tiny" not in ambiguous.stderr
    (published / "tiny-Q8_0.gguf").rename(published / "tiny-Q4_K_M.gguf")
    (tmp_path / "models").mkdir()
    run = run_cli("pull", f"{ID}@{hub.models[ID].commit}")
    assert run.stdout == f"{Path('models') / ID / 'tiny-Q4_K_M.gguf'}\n"


@pytest.mark.parametrize(
    ("source", "code", "parts"),
    [
        (f"{ID}:q3_k_s", 1, ["no model called q3_k_s", "Q5_K_M"]),
        ("org/nothing:q8_0", 1, ["no such model", "Check the name"]),
        ("nothing", 2, ["nothing is no repository", "org/name"]),
        ("../x/y", 2, ["no repository"]),
        ("org/weights", 1, ["holds no GGUF", "edge-llama convert org/weights"]),
    ],
)
def test_what_cannot_be_pulled(  # noqa: PLR0917 - cases and fixtures
    run_cli: RunCLI, hub: Hub, tmp_path: Path, source: str, code: int, parts: list[str]
) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"weights")
    hub.models["org/weights"] = Model(tmp_path / "weights")
    run = run_cli("pull", source)
    assert (run.returncode, run.stdout) == (code, "")
    assert len(run.stderr.splitlines()) == 1
    for part in parts:
        assert part in run.stderr


def test_an_interrupted_download_is_gone_on_with(
    hub: Hub, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_llama_convert.hub.download._CHUNK", 1000)
    parts = FILES[3:5]
    size = sum((published / name).stat().st_size for name in parts)

    def interrupt(step: Fetching) -> None:
        assert step.total == size
        if step.done > size // 2 + 40_000:
            raise KeyboardInterrupt

    for name in parts:
        hub.cut[name.rpartition("/")[2]] = 30_000  # so that it comes in pieces
    root = tmp_path / "models"
    with pytest.raises(KeyboardInterrupt):
        open_repo(HubId(ID)).save(parts, root, interrupt)
    assert [each for each in names(root) if each.endswith(".gguf")] == [f"{ID}/{parts[0]}"]
    assert open_repo(HubId(ID)).save(parts, root) == [root / ID / name for name in parts]
    assert names(root) == [f"{ID}/{name}" for name in parts]
    # Sent once, but for what was under way when it was interrupted.
    sent = sum(hub.sent(name.rpartition("/")[2]) for name in parts)
    assert size <= sent < size + 30_000


def test_damage_never_gets_the_name(hub: Hub, tmp_path: Path) -> None:
    hub.change = lambda name, content: content[:-1] + b"?" if "Q8_0" in name else content
    with pytest.raises(HubError, match="damaged"):
        open_repo(HubId(ID)).save([FILES[0]], tmp_path / "models")
    assert names(tmp_path / "models") == []


def test_what_the_hub_s_cache_holds_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    name = FILES[0]
    cached = hf_hub_download(ID, name)
    before = hub.sent(name)
    (path,) = open_repo(HubId(ID)).save([name], tmp_path / "models")
    assert hub.sent(name) == before
    assert path.samefile(cached)  # linked: on the disk once
    assert open_repo(HubId(ID)).save([name], tmp_path / "models") == [path]
    assert names(tmp_path / "models") == [f"{ID}/{name}"]


def test_a_full_disk_or_folder_that_cannot_be(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HubError, match="file") as caught:
        open_repo(HubId(ID)).save([FILES[0]], tmp_path / "file")
    assert "permissions" in caught.value.hint
    assert hub.sent(FILES[0]) == 0


def test_the_list_of_models(run_cli: RunCLI, models: Path, published: Path) -> None:
    (models / "org" / "name").mkdir(parents=True)
    shutil.copy(published / FILES[0], models / "mine.gguf")
    shutil.copy(published / FILES[1], models / "org" / "name" / "x-Q5_K_M.gguf")
    (models / "broken.gguf").write_bytes(b"GGUF")
    huge = smallmodels.small_llama()
    huge.set("llama.context_length", "u32", 2**31 - 1)
    (models / "huge.gguf").write_bytes(huge.to_bytes())
    run = run_cli("models")
    assert run.returncode == 0, run.stderr
    lines = {line.split()[0]: line.split() for line in run.stdout.splitlines()}
    assert lines["NAME"] == ["NAME", "SIZE", "TYPE", "CONTEXT", "FITS"]
    assert lines["mine"][3:6] == ["F16", "512", "512"]
    assert lines["org/name"][3] == "F16"
    assert lines["broken"][4:6] == ["?", "damaged:"]
    assert "looked in: models, " in run.stderr
    facts = {each["name"]: each for each in json.loads(run_cli("models", "--json").stdout)}
    assert "truncated" in facts["broken"]["problem"] or "ends" in facts["broken"]["problem"]
    assert facts["huge"]["n_ctx"] == 4096


def test_only_models_in_the_folders_are_deleted(
    run_cli: RunCLI, models: Path, published: Path, tmp_path: Path, embedded: Path
) -> None:
    (models / "org" / "name").mkdir(parents=True)
    for name in FILES[:2]:
        shutil.copy(published / name, models / "org" / "name")
    shutil.copytree(published / "BF16", models, dirs_exist_ok=True)
    outside = tmp_path / "outside.gguf"
    shutil.copy(published / FILES[0], outside)
    (models / "link.gguf").symlink_to(outside)
    for name, part in (
        (str(outside), "is no model in"),
        (str(embedded), "is no model in"),
        (str(models / "org"), "is no model in"),
        ("tiny-BF16", "Nobody can be asked: use --yes"),
        ("org/name", "2 models. Name one of them: org/name:Q5_K_M, org/name:Q8_0"),
    ):
        run = run_cli("rm", name)
        assert (run.returncode, run.stdout) == (2, "")
        assert part in run.stderr
    for name in ("tiny-BF16", "link", "org/name:q8_0"):
        run = run_cli("rm", name, "--yes")
        assert run.returncode == 0, run.stderr
    assert names(models) == ["org/name/tiny-Q5_K_M.gguf"]
    assert outside.is_file()
    assert embedded.is_file()


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")
@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 1), (b"y\n", 0)])
def test_on_a_terminal_it_asks(published: Path, answer: bytes, code: int) -> None:
    import pty

    master, slave = pty.openpty()
    os.write(master, answer)
    run = subprocess.run(
        [sys.executable, "-m", "edge_llama", "rm", "tiny-Q8_0"],
        stdin=slave,
        capture_output=True,
        env={**os.environ, "EDGE_LLAMA_MODELS": str(published)},
        timeout=60,
        check=False,
    )
    os.close(master)
    os.close(slave)
    assert (run.returncode, run.stdout) == (code, b"")
    assert b"Delete" in run.stderr
    assert (published / "tiny-Q8_0.gguf").exists() == bool(code)
