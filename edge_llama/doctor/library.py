"""llama.cpp: its version, whether it runs here, and what it was compiled with."""

from __future__ import annotations

import importlib.metadata
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from ..device import choose_device
from ..errors import DeviceError, one_line
from ..hardware import Device, HardwareState
from ..install import BACKENDS, REQUIREMENT, reinstall_command, wheel_command
from ..units import format_bytes
from .check import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE, _, _PIN = REQUIREMENT.partition("==")

#: Seconds after which a probe counts as hung; starting a GPU's driver may take some.
_PATIENCE = 60

_PROBE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from edge_llama.doctor.probe import main; main()"
)


def check_version() -> Check:
    """Compare llama-cpp-python's version with the pin, without loading it."""
    try:
        version = importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return Check(_PACKAGE, "wrong", "not installed", (reinstall_command(),))
    facts = {"version": version, "needed": _PIN}
    if version != _PIN:
        detail = f"version {version}; this release is made for {_PIN} alone"
        return Check(_PACKAGE, "wrong", detail, (reinstall_command(),), facts)
    return Check(_PACKAGE, "ok", f"version {version}, the one this release is made for", (), facts)


def check_library() -> Iterator[Check]:
    """Yield whether llama.cpp runs here and, if it does, a finding per backend."""
    found = _probe()
    if "error" in found:
        yield Check("llama.cpp", "wrong", found["error"], tuple(found["hints"]))
        return
    features = ", ".join(found["features"])
    yield Check("llama.cpp", "ok", f"runs; its CPU code uses {features}", (), found)
    repacked = ", ".join(found["repacked_types"])
    yield Check(
        "repacking",
        "ok" if repacked else "absent",
        f"weights of {repacked} can be re-laid for this CPU"
        if repacked
        else "weights are not re-laid for this CPU: llama.cpp has no layout for it",
    )
    devices = tuple(Device(**device) for device in found["devices"])
    hardware = HardwareState(devices=devices, backends=tuple(found["backends"]))
    for name in BACKENDS:
        if (name == "metal") == (sys.platform == "darwin"):
            yield check_backend(name, hardware)


def check_backend(name: str, hardware: HardwareState) -> Check:
    """Say whether a backend is compiled in and has a device; what would enable it if not."""
    if name not in hardware.backends:
        commands = (wheel_command(name), reinstall_command(name))
        detail = "not compiled in; it takes one of these commands, and a driver"
        return Check(name, "absent", detail, tuple(command for command in commands if command))
    devices = [device for device in hardware.devices if device.backend == name]
    if not devices:
        try:
            choose_device(name, hardware)
        except DeviceError as error:
            return Check(name, "absent", "compiled in, but it has no device", (error.hint,))
    shown = ", ".join(
        f"{device.name} ({device.description}, {format_bytes(device.free)} free)"
        for device in devices
    )
    return Check(name, "ok", shown)


def _probe() -> dict[str, Any]:
    """Ask llama.cpp in another process; an "error" with "hints" if it cannot be asked."""
    command = [sys.executable, "-c", _PROBE, json.dumps(sys.path)]
    try:
        run = subprocess.run(  # noqa: S603 - this interpreter, our own code
            command, capture_output=True, timeout=_PATIENCE, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return _broken(f"loading it does not end within {_PATIENCE} s")
    except OSError as error:
        return {"error": f"{sys.executable} cannot be started: {error}", "hints": []}
    if run.returncode < 0:
        return _broken(f"loading it ends the process with {_signal(-run.returncode)}")
    try:
        found: dict[str, Any] = json.loads(run.stdout)
    except ValueError:
        last = run.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return _broken(one_line(f"loading it ends with code {run.returncode}: {last}"))
    if "error" in found:
        found["hints"] = [found["hint"]]
    return found


def _broken(problem: str) -> dict[str, Any]:
    # A prebuilt library may use instructions that this CPU lacks; compiled here it does not.
    return {"error": problem, "hints": [f"Compile it on this machine: {reinstall_command()}"]}


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
