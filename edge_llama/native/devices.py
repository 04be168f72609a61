"""The devices and backends that llama.cpp was compiled with (ggml's registry)."""

from __future__ import annotations

import ctypes
import functools
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..errors import NativeLibraryError
from ..hardware import Device
from ..install import backend_name, reinstall_command
from .library import llama

#: enum ggml_backend_dev_type
_GPU, _INTEGRATED = 1, 2


def cpu_features() -> frozenset[str]:
    """Return what llama.cpp's CPU code uses here, e.g. {"AVX2", "FMA", "REPACK"}."""
    words = llama().llama_print_system_info().decode("utf-8", errors="replace")
    return frozenset(
        part.split(" = ")[0].split(":")[-1].strip() for part in words.split("|") if " = 1" in part
    )


@functools.cache
def extra_buffers() -> dict[str, int]:
    """Return the CPU's buffers for re-laid weights: ``ggml_backend_buffer_type_t`` by name."""
    ggml = _ggml()
    name = b"ggml_backend_dev_get_extra_bufts"
    address = ggml.ggml_backend_reg_get_proc_address(ggml.ggml_backend_reg_by_name(b"CPU"), name)
    if not address:
        return {}
    handles = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)(
        ggml.ggml_backend_dev_by_name(b"CPU")
    )
    found: dict[str, int] = {}
    for i in itertools.count():
        if not handles or not handles[i]:  # the list ends with NULL
            return found
        found[ggml.ggml_backend_buft_name(handles[i]).decode()] = handles[i]
    raise AssertionError


def backends() -> tuple[str, ...]:
    """Return the names of the backends that are compiled in, in lower case."""
    ggml = _ggml()
    count = ggml.ggml_backend_reg_count()
    return tuple(_backend_name(ggml.ggml_backend_reg_get(i)) for i in range(count))


def device_list(name: str) -> Any:
    """Return a NULL-terminated ``ggml_backend_dev_t *``: the device ``name``, or none for "cpu".

    Raises:
        NativeLibraryError: the device has gone.
    """
    if name == "cpu":
        return (ctypes.c_void_p * 1)(None)
    handle = _ggml().ggml_backend_dev_by_name(name.encode())
    if not handle:
        raise NativeLibraryError(
            f"llama.cpp no longer has the device {name}", hint="Use device='cpu' (--device cpu)."
        )
    return (ctypes.c_void_p * 2)(handle, None)


def devices() -> list[Device]:
    """Return the GPUs, with the memory that is free on them now."""
    ggml, found = _ggml(), []
    for i in range(ggml.ggml_backend_dev_count()):
        handle = ggml.ggml_backend_dev_get(i)
        kind = ggml.ggml_backend_dev_type(handle)
        if kind not in {_GPU, _INTEGRATED}:
            continue
        free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
        ggml.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
        found.append(
            Device(
                name=ggml.ggml_backend_dev_name(handle).decode(),
                backend=_backend_name(ggml.ggml_backend_dev_backend_reg(handle)),
                description=ggml.ggml_backend_dev_description(handle).decode(errors="replace"),
                kind="igpu" if kind == _INTEGRATED else "gpu",
                free=free.value,
                total=total.value,
            )
        )
    return found


def _backend_name(handle: int) -> str:
    return backend_name(_ggml().ggml_backend_reg_name(handle).decode())


_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ggml_backend_reg_count": (ctypes.c_size_t, ()),
    "ggml_backend_reg_get": (ctypes.c_void_p, (ctypes.c_size_t,)),
    "ggml_backend_reg_name": (ctypes.c_char_p, (ctypes.c_void_p,)),
    "ggml_backend_reg_by_name": (ctypes.c_void_p, (ctypes.c_char_p,)),
    "ggml_backend_reg_get_proc_address": (ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p)),
    "ggml_backend_buft_name": (ctypes.c_char_p, (ctypes.c_void_p,)),
    "ggml_backend_dev_count": (ctypes.c_size_t, ()),
    "ggml_backend_dev_get": (ctypes.c_void_p, (ctypes.c_size_t,)),
    "ggml_backend_dev_by_name": (ctypes.c_void_p, (ctypes.c_char_p,)),
    "ggml_backend_dev_name": (ctypes.c_char_p, (ctypes.c_void_p,)),
    "ggml_backend_dev_description": (ctypes.c_char_p, (ctypes.c_void_p,)),
    "ggml_backend_dev_type": (ctypes.c_int, (ctypes.c_void_p,)),
    "ggml_backend_dev_backend_reg": (ctypes.c_void_p, (ctypes.c_void_p,)),
    "ggml_backend_dev_memory": (
        None,
        (ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)),
    ),
}


@functools.cache
def _ggml() -> Any:
    """Return ggml's functions by name; they live in two libraries that libllama depends on."""
    # Through libllama's own handle: loading them by path could give second copies with no devices.
    libraries = [llama()._lib]  # noqa: SLF001 - the bindings keep it there
    if sys.platform == "win32":  # where a handle finds no symbols of dependencies
        folder = Path(libraries[0]._name).parent  # noqa: SLF001
        libraries += [ctypes.CDLL(str(folder / name)) for name in ("ggml.dll", "ggml-base.dll")]
    functions = SimpleNamespace()
    for name, (result, arguments) in _SIGNATURES.items():
        function = next((getattr(item, name) for item in libraries if hasattr(item, name)), None)
        if function is None:
            raise NativeLibraryError(
                f"llama-cpp-python lacks {name}",
                hint=f"Install the version this release was made for: {reinstall_command()}",
            )
        function.restype, function.argtypes = result, list(arguments)
        setattr(functions, name, function)
    return functions
