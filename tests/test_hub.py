"""Models by their id, from a hub of the tests' own (hubserver.py)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import builders
import families
import huggingface_hub
import pickles
import pytest
from filelock import FileLock
from hubserver import INVALID_TOKEN, Hub, Model, git_sha1, sha256, use
from huggingface_hub import constants, hf_hub_download
from rich.console import Console

from edge_llama import inspect
from edge_llama.cli import console
from edge_llama.cli.convert import describe
from edge_llama.cli.progress import byte_progress, fetching
from edge_llama_convert import ConvertError, Fetching, HubError, convert, fetch, plan
from edge_llama_convert.hub import HubId
from edge_llama_convert.report import REPORT_KEY, read_report
from scripts import run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    RunCLI = Callable[..., subprocess.CompletedProcess[str]]

NAME = "Tiny-Llama-1.5M-Instruct"
ID = f"org/{NAME}"
WEIGHTS = "model.safetensors"
CARD = "---\nlicense: mit\nlanguage:\n- en\n---\n# Tiny\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as people publish them: with much that a conversion does not need."""
    out = tmp_path_factory.mktemp("published")
    path = families.build(out, "llama2", "even").rename(out / NAME)
    (path / "README.md").write_text(CARD, encoding="utf-8")
    (path / "additional_chat_templates").mkdir()
    (path / "additional_chat_templates" / "tools.jinja").write_text("tools", encoding="utf-8")
    for name in (
        *("pytorch_model.bin", "consolidated.safetensors", "tiny-q8_0.gguf", "logo.png"),
        *("onnx/model.onnx", "original/consolidated.00.pth", "original/params.json", "notes.json"),
    ):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"not needed" * 1000)
    return path


NEEDED = {
    *("config.json", "generation_config.json", "README.md", "tokenizer.json", "tokenizer.model"),
    *("tokenizer_config.json", "added_tokens.json", "tools.jinja", WEIGHTS),
}


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub({ID: Model(folder)})
    use(hub, tmp_path / "cache", monkeypatch)
    yield hub
    hub.close()


def blobs(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "hub" / f"models--org--{NAME}" / "blobs"


def partial(tmp_path: Path, folder: Path) -> Path:
    return blobs(tmp_path) / f"{sha256(folder / WEIGHTS)}.incomplete"


# --- Ids -----------------------------------------------------------------------------------------


def test_what_exists_is_a_path_and_so_is_what_cannot_be_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert HubId.parse("org/name") == HubId("org/name")
    assert HubId.parse("org/name@refs/pr/1") == HubId("org/name", "refs/pr/1")
    assert str(HubId.parse("org/Na.me-1_b@v1.0")) == "org/Na.me-1_b@v1.0"
    for text in (
        *("./org/name", "/org/name", "../name", "org/name/", "org/../name", "name", "a/b/c"),
        *("~/name", "org\\name", "C:/name", "models/x.gguf", "org/name@../x", "org/name@", "a//b"),
    ):
        assert HubId.parse(text) is None, text
    assert HubId.parse(Path("org/name")) is None
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "name").symlink_to("nowhere")
    assert HubId.parse("org/name") is None


def test_a_folder_wins_over_the_hub(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, tmp_path / "org" / NAME)
    assert plan(ID).hub is None
    assert hub.requests == []


# --- Conversion ----------------------------------------------------------------------------------


def test_the_result_is_that_of_the_folder_and_only_what_is_needed_is_fetched(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    convert(plan(folder), tmp_path / "folder.gguf")
    steps: list[Fetching] = []
    work = plan(ID)
    assert hub.sent(WEIGHTS) < 200_000  # the header, not the weights
    result = convert(work, tmp_path / "hub.gguf", fetching=steps.append)
    assert (tmp_path / "hub.gguf").read_bytes() == (tmp_path / "folder.gguf").read_bytes()
    assert {each.name for each in hub.requests if each.sent} == {*NEEDED, "main"}
    size = (folder / WEIGHTS).stat().st_size
    assert (steps[-1].file, steps[-1].done, steps[-1].total) == (WEIGHTS, size, size)
    assert work.default_output.name == f"{NAME}-q4_k_m.gguf"

    commit = hub.models[ID].commit
    assert work.hub is not None
    assert (work.hub.label, work.hub.revision) == (f"{ID}@{commit}", commit)
    assert work.hub.files[WEIGHTS].sha256 == sha256(folder / WEIGHTS)
    assert work.hub.files["config.json"].git_sha1 == git_sha1(folder / "config.json")
    assert {file.path.name for file in result.plan.files} >= NEEDED - {"README.md", "tools.jinja"}


def test_shards_and_other_formats(hub: Hub, folder: Path, tmp_path: Path) -> None:
    shards, torch = (Path(shutil.copytree(folder, tmp_path / name)) for name in ("shards", "torch"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tensors = {
        name: ("F16", builders.pack(values, "F16"))
        for name, values in builders.tiny_tensors(config).items()
    }
    weight_map = {}
    for number in (1, 2):
        file = f"model-0000{number}-of-00002.safetensors"
        part = dict(list(tensors.items())[number - 1 :: 2])
        builders.write_safetensors(shards / file, part)
        weight_map.update(dict.fromkeys(part, file))
    builders.write_json(shards / "model.safetensors.index.json", {"weight_map": weight_map})
    for path in (shards, torch):
        (path / WEIGHTS).unlink()
    pickles.write_torch(torch / "pytorch_model.bin", tensors)
    for path in (shards, torch):
        hub.models[f"org/{path.name}"] = Model(path)
        convert(plan(f"org/{path.name}", recipe="q8_0"), tmp_path / "hub.gguf", force=True)
        convert(plan(path, recipe="q8_0"), tmp_path / "folder.gguf", force=True)
        assert (tmp_path / "hub.gguf").read_bytes() == (tmp_path / "folder.gguf").read_bytes()


def test_a_dry_run_fetches_no_weights(hub: Hub, folder: Path, run_cli: RunCLI) -> None:
    run = run_cli("convert", ID, "--dry-run")
    assert (run.returncode, run.stderr) == (0, "")
    size, label = (folder / WEIGHTS).stat().st_size, f"{ID}@{hub.models[ID].commit}"
    assert f"{label}: {size / 1e6:.1f} MB to download" in run.stdout
    assert all(each.headers["Range"] for each in hub.asked(WEIGHTS))
    assert hub.sent(WEIGHTS) < 200_000
    described = describe(plan(ID), Path("x"))
    assert (described["source"], described["download_bytes"]) == (label, size)


@pytest.mark.usefixtures("hub")
def test_a_terminal_shows_how_far_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=screen, force_terminal=True, width=100))
    with byte_progress() as show:
        fetch(plan(ID), fetching(show))
    assert f"fetch {WEIGHTS}" in screen.getvalue()
    size = f"{(folder / WEIGHTS).stat().st_size / 1e6:.1f}"
    assert f"{size}/{size} MB" in screen.getvalue()


@pytest.mark.usefixtures("hub")
def test_verify_against_the_hub(folder: Path, tmp_path: Path, run_cli: RunCLI) -> None:
    run = run_cli("convert", ID, "--type", "q8_0")
    assert (run.returncode, run.stdout) == (0, f"models{os.sep}{NAME}-q8_0.gguf\n"), run.stderr
    report = read_report(inspect(tmp_path / run.stdout.strip()).metadata[REPORT_KEY]) or {}
    repo = plan(ID).hub
    assert repo is not None
    assert report["source"] == {"name": ID, "revision": repo.revision}
    assert report["inputs"][WEIGHTS]["sha256"] == sha256(folder / WEIGHTS)
    assert {Path(name).name for name in report["inputs"]} == NEEDED
    shutil.rmtree(tmp_path / "cache")
    again = run_cli("verify", f"models/{NAME}-q8_0.gguf", "--against", ID, "--quick")
    assert again.returncode == 0, again.stderr
    assert "ok: inputs: 9 files" in again.stderr
    assert "ok: weights" in again.stderr


# --- The cache -----------------------------------------------------------------------------------


def test_what_huggingface_hub_downloaded_is_not_fetched_again(hub: Hub) -> None:
    hf_hub_download(ID, WEIGHTS)
    hub.requests.clear()
    steps: list[Fetching] = []
    fetch(plan(ID), steps.append)
    assert hub.asked(WEIGHTS) == []
    assert {step.action for step in steps} == {"check"}
    read = len(steps)
    fetch(plan(ID), steps.append)
    assert len(steps) == read + 1 > 2  # checked once is enough


@pytest.mark.usefixtures("hub")
def test_huggingface_hub_finds_what_was_fetched(folder: Path, tmp_path: Path) -> None:
    work = fetch(plan(ID))
    for name in ("config.json", WEIGHTS):
        found = Path(hf_hub_download(ID, name, local_files_only=True))
        assert found == work.source / name
        assert found.read_bytes() == (folder / name).read_bytes()
    (cached,) = huggingface_hub.scan_cache_dir(tmp_path / "cache" / "hub").repos
    assert cached.repo_id == ID
    assert not list(blobs(tmp_path).glob("*.incomplete"))


def test_offline_what_is_complete_is_enough(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(plan(ID), tmp_path / "online.gguf")
    hub.requests.clear()
    commit = hub.models[ID].commit
    disconnections: list[Callable[[], object]] = [
        lambda: setattr(hub, "status", 503),
        hub.close,
        lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True),
    ]
    for disconnect in disconnections:
        disconnect()
        huggingface_hub.close_session()
        for source in (ID, f"{ID}@{commit}"):
            work = plan(source)
            convert(work, tmp_path / "offline.gguf", force=True)
            assert work.hub is not None
            assert work.hub.label == f"{ID}@{commit}"
            assert work.hub.files[WEIGHTS].sha256 == sha256(folder / WEIGHTS)
            online = (tmp_path / "online.gguf").read_bytes()
            assert (tmp_path / "offline.gguf").read_bytes() == online
    assert all(request.sent == 0 for request in hub.requests)


# --- Interruptions -------------------------------------------------------------------------------


def test_a_broken_connection_is_resumed(hub: Hub, folder: Path, tmp_path: Path) -> None:
    work = plan(ID)
    size = (folder / WEIGHTS).stat().st_size
    hub.requests.clear()
    hub.cut[WEIGHTS] = 2_000_000
    hub.on_cut = lambda: setattr(hub, "status", 503)
    with pytest.raises(HubError, match="answered 503") as caught:
        fetch(work)
    assert "run the command again" in caught.value.hint
    arrived = partial(tmp_path, folder).stat().st_size
    assert 1_500_000 < arrived <= 2_000_000
    assert work.hub is not None
    assert work.hub.missing([WEIGHTS]) == size - arrived

    hub.status = 0
    hub.cut.clear()
    steps: list[Fetching] = []
    hub.requests.clear()
    fetch(plan(ID), steps.append)
    whole = [each for each in hub.asked(WEIGHTS) if each.sent > 100_000]
    assert [each.headers["Range"] for each in whole] == [f"bytes={arrived}-"]
    assert steps[-1].done == size
    assert not partial(tmp_path, folder).exists()


def test_short_breaks_are_overcome_within_one_run(hub: Hub, folder: Path) -> None:
    work = plan(ID)
    hub.requests.clear()
    hub.cut[WEIGHTS] = 1_000_000
    fetch(work)
    assert len(hub.asked(WEIGHTS)) > 2
    assert hub.sent(WEIGHTS) < 1.5 * (folder / WEIGHTS).stat().st_size


def test_a_hub_without_ranges_sends_the_whole_again(hub: Hub, folder: Path, tmp_path: Path) -> None:
    work = plan(ID)
    partial(tmp_path, folder).write_bytes(b"something else")
    hub.ranges = False
    hub.cut[WEIGHTS] = 1_000_000
    with pytest.raises(HubError, match="connection to"):  # it never gets beyond
        fetch(work)
    hub.cut.clear()
    steps: list[Fetching] = []
    fetch(work, steps.append)
    assert steps[-1].done == steps[-1].total == (folder / WEIGHTS).stat().st_size
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(HubError, match="does not send parts"):
        plan(ID)


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_ctrl_c_leaves_what_has_arrived(
    hub: Hub, folder: Path, tmp_path: Path, run_cli: RunCLI
) -> None:
    released = threading.Event()
    hub.cut[WEIGHTS] = 2_000_000
    hub.on_cut = lambda: released.wait(60)
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_llama", "convert", ID, "--type", "q8_0"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with_content = partial(tmp_path, folder)
        if with_content.exists() and with_content.stat().st_size > 1_500_000:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    released.set()
    assert (process.returncode, errors) == (130, "")
    arrived = partial(tmp_path, folder).stat().st_size
    hub.cut.clear()
    hub.requests.clear()
    assert run_cli("convert", ID, "--type", "q8_0").returncode == 0
    assert f"bytes={arrived}-" in [each.headers["Range"] for each in hub.asked(WEIGHTS)]


def test_two_processes_do_not_fetch_the_same_file(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = plan(ID)
    monkeypatch.setattr("edge_llama_convert.hub.download._LOCK_SECONDS", 0.1)
    locks = tmp_path / "cache" / "hub" / ".locks" / f"models--org--{NAME}"
    with FileLock(locks / f"{sha256(folder / WEIGHTS)}.lock"):
        with pytest.raises(HubError, match="another process is fetching it"):
            fetch(work)
        assert hub.sent(WEIGHTS) < 200_000
    fetch(work)


# --- Damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.model"])
@pytest.mark.parametrize("damage", ["changed", "longer"])
def test_a_damaged_download_is_refused_and_removed(hub: Hub, name: str, damage: str) -> None:
    def change(sent: str, content: bytes) -> bytes:
        if sent != name:
            return content
        return content + b"!" if damage == "longer" else content[:-1] + b"!"

    hub.change = change
    with pytest.raises(HubError, match=f"{name}: damaged") as caught:
        fetch(plan(ID))
    assert "removed" in caught.value.hint
    hub.change = lambda _, content: content
    fetch(plan(ID))


@pytest.mark.usefixtures("hub")
def test_damage_in_the_cache_is_found() -> None:
    work = fetch(plan(ID))
    blob = (work.source / WEIGHTS).resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(HubError, match=f"{WEIGHTS}: damaged"):
        convert(plan(ID))
    assert not blob.exists()
    fetch(plan(ID))
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


# --- Refusals ------------------------------------------------------------------------------------


def assert_refused(source: str, *parts: str) -> HubError:
    with pytest.raises(HubError) as caught:
        fetch(plan(source))
    line = f"{caught.value}. {caught.value.hint}"
    assert "\n" not in line
    for part in parts:
        assert part in line
    return caught.value


def test_models_that_cannot_be_had(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_refused("org/nothing", "org/nothing", "no such model", "HF_TOKEN")
    assert_refused(f"{ID}@v9", "no revision v9", "@REVISION")
    hub.models["org/gated"] = Model(folder, tokens=("hf_good",), gated=True)
    hub.models["org/private"] = Model(folder, tokens=("hf_good",))
    for token in ("", "hf_bad"):
        monkeypatch.setenv("HF_TOKEN", token)
        assert_refused("org/gated", "gated", f"{hub.endpoint}/org/gated", "HF_TOKEN")
        assert_refused("org/private", "no such model", "HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", INVALID_TOKEN)
    assert_refused(ID, "refuses the access (401)", "unset it")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    plan("org/gated")
    plan("org/private")
    for status, part in ((429, "too many requests"), (418, "answered 418"), (403, "refuses")):
        hub.status = status
        assert_refused(ID, part)


def test_the_token_stays_between_us_and_the_hub(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, run_cli: RunCLI
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.models[ID].tokens = ("hf_secret",)
    run = run_cli("--verbose", "convert", ID, "--dry-run")
    assert run.returncode == 0, run.stderr
    assert "hf_secret" not in run.stdout + run.stderr
    fetch(plan(ID))
    stored = [each for each in hub.requests if each.place == "storage"]
    assert stored
    assert not any("authorization" in map(str.lower, each.headers) for each in stored)


def test_repositories_without_a_checkpoint(hub: Hub, tmp_path: Path) -> None:
    for name, files, part in (
        ("gguf", ["x-q4_k_m.gguf", "config.json"], "holds only GGUF files"),
        ("lora", ["adapter_config.json", "adapter_model.safetensors"], "an adapter"),
        ("part", ["model.safetensors"], "no config.json"),
        ("onnx", ["onnx/model.onnx", "config.json"], "no weights that can be converted"),
        ("deep", ["original/consolidated.00.pth"], "no weights that can be converted"),
    ):
        for file in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_bytes(b"{}")
        hub.models[f"org/{name}"] = Model(tmp_path / name)
        assert_refused(f"org/{name}", part)
    assert not [each for each in hub.requests if each.place == "storage"]


def test_what_cannot_be_converted_is_known_before_the_weights_are_fetched(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    builders.write_json(
        other / "config.json", {**builders.CONFIG, "architectures": ["FalconForCausalLM"]}
    )
    hub.models["org/falcon"] = Model(other)
    with pytest.raises(ConvertError, match="FalconForCausalLM"):
        plan("org/falcon")
    assert hub.sent(WEIGHTS) < 200_000


def test_out_of_reach(hub: Hub, monkeypatch: pytest.MonkeyPatch, run_cli: RunCLI) -> None:
    plan(ID)  # leaves the small files in the cache, not the weights
    hub.close()
    huggingface_hub.close_session()
    assert_refused(ID, "connection to 127.0.0.1", "connection")
    assert_refused("org/other", "connection to 127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_refused(ID, "HF_HUB_OFFLINE is set", "Unset")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run = run_cli("convert", "org/other")
    assert run.returncode == 1
    assert run.stderr.startswith("error: org/other: HF_HUB_OFFLINE is set")
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "answer", ["<html>Please log in</html>", "{}", '{"id": "x", "sha": "../../x"}']
)
def test_an_endpoint_that_is_no_hub(hub: Hub, answer: str) -> None:
    hub.change = lambda *_: answer.encode()
    assert_refused(ID, "does not answer as a hub does", "HF_ENDPOINT")


def test_names_that_lead_out_of_the_cache_are_left_out(hub: Hub, tmp_path: Path) -> None:
    def change(name: str, content: bytes) -> bytes:
        return content.replace(b'"config.json"', b'"../../config.json"') if name == "api" else b"{}"

    hub.change = change
    assert_refused(ID, "no config.json")
    assert not list(tmp_path.rglob("config.json"))


@pytest.mark.skipif(os.name != "posix", reason="file-size limits are POSIX")
@pytest.mark.usefixtures("hub")
def test_a_full_disk(folder: Path, tmp_path: Path) -> None:
    script = f"""
        import resource
        from edge_llama_convert import HubError, fetch, plan
        work = plan({ID!r})
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
        try:
            fetch(work)
        except HubError as error:
            print(error, "|", error.hint)
    """
    run = run_script(script)
    assert run.returncode == 0, run.stderr
    assert "no space left in the cache" in run.stdout
    assert "HF_HOME" in run.stdout
    assert partial(tmp_path, folder).stat().st_size == 2_000_000
    fetch(plan(ID))


@pytest.mark.usefixtures("hub")
def test_more_than_the_disk_holds_is_known_before(monkeypatch: pytest.MonkeyPatch) -> None:
    work = plan(ID)
    usage = shutil.disk_usage(".")._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(HubError, match="MB to fetch, but 1 MB free"):
        fetch(work)


def test_without_huggingface_hub() -> None:
    script = f"""
        import sys
        sys.modules["huggingface_hub"] = None
        from edge_llama.cli.app import run
        sys.exit(run(["convert", {ID!r}]))
    """
    run = run_script(script)
    assert run.returncode == 1
    assert "pip install 'edge-llama[hub]'" in " ".join(run.stderr.split())
