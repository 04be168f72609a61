"""``edge-llama doctor``, with installations that are broken in the ways they break."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from edge_llama.doctor.library import check_backend
from edge_llama.hardware import Device, HardwareState
from edge_llama.install import REQUIREMENT, reinstall_command, wheel_command

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    RunCLI = Callable[..., subprocess.CompletedProcess[str]]

#: What an import of llama_cpp does, and what is said of it.
BROKEN = {
    "raise OSError('libllama.so: cannot open shared object file')": "cannot open shared object",
    "raise RuntimeError('Failed to load shared library')": "Failed to load shared library",
    "import os; os.abort()": "ends the process with SIGABRT",
    "import os; os._exit(3)": "ends with code 3",
    "class S: _fields_ = ()\nllama_model_params = llama_context_params = S": "lacks llama_decode",
}


def examine(run_cli: RunCLI) -> tuple[int, dict[str, Any]]:
    """The exit code, and findings by name."""
    run = run_cli("doctor", "--json")
    assert "Traceback" not in run.stderr
    found = json.loads(run.stdout)
    assert found["ok"] == (run.returncode == 0)
    return run.returncode, {check["name"]: check for check in found["checks"]}


@pytest.mark.model
def test_a_sound_installation(run_cli: RunCLI) -> None:
    code, found = examine(run_cli)
    assert code == 0
    for name in ("llama.cpp", "llama-cpp-python", "packages", "grammars", "embedded model"):
        assert found[name]["state"] == "ok", found[name]
    assert found["llama.cpp"]["facts"]["backends"]
    assert found["memory"]["facts"]["available"] > 0
    shown = run_cli("doctor")
    assert shown.returncode == 0
    assert len([line for line in shown.stdout.splitlines() if line[0] != " "]) == len(found)
    for check in found.values():
        for remedy in check["remedies"]:
            assert f"       {remedy}\n" in shown.stdout  # on one line, to be copied


@pytest.mark.parametrize("code", [*BROKEN])
def test_a_broken_llama_cpp_is_a_finding(
    run_cli: RunCLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    if os.name != "posix" and "abort" in code:
        pytest.skip("signals are POSIX")
    package = tmp_path / "broken" / "llama_cpp"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '0'\n", encoding="utf-8")
    (package / "llama_cpp.py").write_text(code, encoding="utf-8")
    before = os.environ.get("PYTHONPATH")
    paths = [str(package.parent), *([before] if before else [])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    status, found = examine(run_cli)
    assert status == 1
    assert found["llama.cpp"]["state"] == "wrong"
    assert BROKEN[code] in found["llama.cpp"]["detail"]
    assert reinstall_command() in found["llama.cpp"]["remedies"][0]
    assert found["converter"]["state"] in {"ok", "absent"}  # it went on


def test_another_version_of_the_bindings(
    run_cli: RunCLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "other" / "llama_cpp_python-0.3.1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: 0.3.1\n", encoding="utf-8"
    )
    before = os.environ.get("PYTHONPATH")
    paths = [str(folder.parent), *([before] if before else [])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    status, found = examine(run_cli)
    assert status == 1
    finding = found["llama-cpp-python"]
    assert finding["state"] == "wrong"
    assert "0.3.1;" in finding["detail"]
    assert REQUIREMENT in finding["remedies"][0]


def test_a_folder_that_cannot_be_and_kernels_that_are_off(
    run_cli: RunCLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGE_LLAMA_MODELS", str(tmp_path / "file" / "models"))
    monkeypatch.setenv("EDGE_LLAMA_KERNELS", "0")
    status, found = examine(run_cli)
    assert status == 1
    assert found["models folder"]["state"] == "wrong"
    assert "EDGE_LLAMA_MODELS" in found["models folder"]["remedies"][0]
    assert found["converter"]["state"] == "absent"


def test_backends() -> None:
    gpu = Device(
        name="CUDA0", backend="cuda", description="RTX", kind="gpu", free=2**33, total=2**34
    )
    hardware = HardwareState(devices=(gpu,), backends=("cpu", "cuda", "vulkan"))
    found = check_backend("cuda", hardware)
    assert (found.state, found.detail) == ("ok", "CUDA0 (RTX, 8.00 GiB free)")
    found = check_backend("vulkan", hardware)
    assert found.state == "absent"
    assert "vulkaninfo" in found.remedies[0]
    found = check_backend("rocm", hardware)
    assert found.state == "absent"
    assert found.remedies == (wheel_command("rocm"), reinstall_command("rocm"))
