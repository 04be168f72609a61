"""Which llama-cpp-python this release is made for, and how to get it with another backend.

The CMake options and the wheel indices are those of llama-cpp-python's README.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

#: Exact on purpose, like the pin in pyproject.toml: patch releases change C signatures.
REQUIREMENT = "llama-cpp-python==0.3.36"

_WHEELS = "https://abetlen.github.io/llama-cpp-python/whl"
_PIP = f"pip install --force-reinstall --no-cache-dir {REQUIREMENT}"


@dataclass(frozen=True)
class _Backend:
    cmake: str
    wheels: str | None = None


#: By the name of llama.cpp's backend, in lower case. Of the CUDA wheels the newest of version 12.
BACKENDS = {
    "cuda": _Backend("-DGGML_CUDA=on", "cu125"),
    "metal": _Backend("-DGGML_METAL=on", "metal"),
    "rocm": _Backend("-DGGML_HIP=on", "rocm72"),
    "vulkan": _Backend("-DGGML_VULKAN=on", "vulkan"),
    "sycl": _Backend("-DGGML_SYCL=on -DCMAKE_C_COMPILER=icx -DCMAKE_CXX_COMPILER=icpx"),
}

#: Other names for a backend: what its registry or its makers call it.
_ALIASES = {"mtl": "metal", "mps": "metal", "hip": "rocm"}


def backend_name(name: str) -> str:
    """Return the name that is used here for a backend, whatever it is called elsewhere."""
    name = name.lower()
    return _ALIASES.get(name, name)


def reinstall_command(backend: str | None = None, *, platform: str = sys.platform) -> str:
    """Return the shell command that installs llama-cpp-python, compiled with ``backend``."""
    if backend is None:
        return _PIP
    flags = BACKENDS[backend].cmake
    if platform == "win32":
        return f"$env:CMAKE_ARGS='{flags}'; {_PIP}"
    return f'CMAKE_ARGS="{flags}" {_PIP}'


def wheel_command(backend: str) -> str | None:
    """Return the command that installs a wheel compiled with ``backend``, if there are any."""
    wheels = BACKENDS[backend].wheels
    return None if wheels is None else f"{_PIP} --extra-index-url {_WHEELS}/{wheels}"
