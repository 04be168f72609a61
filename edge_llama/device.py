"""Which device a model is computed on: the one asked for, or the best there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import DeviceError
from .install import BACKENDS, backend_name, reinstall_command, wheel_command

if TYPE_CHECKING:
    from .hardware import Device, HardwareState


def choose_device(wanted: str, hardware: HardwareState) -> Device | None:
    """Return the device to use, None for the CPU.

    ``wanted`` is "cpu", "auto" (the GPU with the most free memory, else the CPU), a backend, or a
    device's own name.

    Raises:
        DeviceError: it is not compiled in, or there is no such device.
    """
    name = backend_name(wanted.strip())
    if name == "cpu":
        return None
    if name in {"auto", "gpu"}:
        return _roomiest(hardware.devices)
    for device in hardware.devices:
        if device.name.lower() == name:
            return device
    found = _roomiest(tuple(item for item in hardware.devices if item.backend == name))
    if found is None:
        raise _missing(wanted, name, hardware)
    return found


def _roomiest(devices: tuple[Device, ...]) -> Device | None:
    """Prefer cards of their own to integrated ones, then free memory."""
    return max(devices, key=lambda device: (device.kind == "gpu", device.free), default=None)


def _missing(wanted: str, name: str, hardware: HardwareState) -> DeviceError:
    backend = backend_name(name.rstrip("0123456789"))
    devices = ", ".join(device.name for device in hardware.devices) or "none"
    if backend not in BACKENDS:
        return DeviceError(
            f"there is no device {wanted!r}; this llama.cpp has {', '.join(hardware.backends)}, "
            f"with these devices: {devices}",
            hint=f"Use auto, cpu, {', '.join(BACKENDS)}, or a device's name (--device).",
        )
    if backend in hardware.backends:
        hints = {
            "vulkan": "Check the driver with: vulkaninfo --summary (software devices are used only "
            "if GGML_VK_VISIBLE_DEVICES names them).",
            "cuda": "Check the driver with: nvidia-smi",
        }
        return DeviceError(
            f"device {wanted!r}: the backend {backend} is compiled in, but has no such device "
            f"(devices: {devices})",
            hint=hints.get(backend, "Check the driver, or use device='cpu'."),
        )
    wheel = wheel_command(backend)
    return DeviceError(
        f"device {wanted!r}: this llama.cpp is compiled without {backend} "
        f"(it has {', '.join(hardware.backends)})",
        hint=f"Reinstall it: {reinstall_command(backend)}"
        + (f"  or, without compiling: {wheel}" if wheel else ""),
    )
