"""Compile the shared libraries that are our own; standard library only.

    python convert/kernels/build.py  # both, where a checkout looks for them

The quantisation kernels' ``isa.cpp`` is compiled once per instruction-set level, and the library
picks a level when it is loaded, so one file serves every machine of an architecture.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# -ffp-contract=off is what makes the results ggml's, bit for bit: no fused multiply-add, ever.
FLAGS = [
    *("-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
    *("-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi"),
]
LEVELS = {
    "AVX2": ["-mavx2"],
    "AVX512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"],
}


#: Where they go, in a source tree.
KERNELS = "convert/edge_llama_convert/_kernels.so"
CHOOSE = "edge_llama/native/_choose.so"


class BuildError(Exception):
    """No compiler, or it failed; the message is the compiler's own."""


def find_compiler() -> list[str]:
    """Return $CXX, else the first C++ compiler on the path; BuildError without one."""
    if os.environ.get("CXX"):
        return shlex.split(os.environ["CXX"])
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    raise BuildError("no C++ compiler found (set CXX)")


def _levels() -> dict[str, list[str]]:
    # Windows stays at SSE2: its GCC keeps stacks 16-byte aligned and yet spills 32-byte vectors
    # as if they were aligned, which crashes (GCC bug 54412).
    is_x86 = platform.machine().lower() in {"x86_64", "amd64"}
    return LEVELS if is_x86 and sys.platform != "win32" else {}


def build_all(root: Path) -> list[str]:
    """Compile both libraries in a source tree; return their paths in it, or raise BuildError."""
    _build_kernels(root / "convert" / "kernels", root / KERNELS)
    _link([str(root / "edge_llama" / "native" / "choose.cpp")], root / CHOOSE)
    return [KERNELS, CHOOSE]


def _start(*arguments: str) -> subprocess.Popen[str]:
    flags = FLAGS if sys.platform == "win32" else [*FLAGS, "-fPIC"]
    command = [*find_compiler(), *flags, *arguments]
    try:
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    except OSError as error:
        raise BuildError(str(error)) from error


def _link(arguments: list[str], out: Path) -> None:
    try:
        with tempfile.TemporaryDirectory() as scratch:
            partial = f"{scratch}/library"
            link = _start("-shared", *arguments, "-o", partial)
            _, errors = link.communicate()
            if link.returncode:
                raise BuildError(errors)
            # Into place in one step: another process may be loading the old file.
            staged = out.with_name(f"{out.name}.{os.getpid()}.tmp")
            shutil.copyfile(partial, staged)
            staged.replace(out)
    except OSError as error:
        raise BuildError(str(error)) from error


def _build_kernels(source: Path, out: Path) -> None:
    try:
        with tempfile.TemporaryDirectory() as scratch:
            jobs = {
                level: _start(*extra, "-c", f"{source / 'isa.cpp'}", "-o", f"{scratch}/{level}.o")
                for level, extra in {**_levels(), "base": []}.items()
            }
            objects, defines = [], []
            for level, job in jobs.items():
                _, errors = job.communicate()
                if job.returncode == 0:
                    objects.append(f"{scratch}/{level}.o")
                    defines += [f"-DEDGE_HAVE_{level}"] if level != "base" else []
                elif level == "base":  # an old compiler may lack the others; they are only faster
                    raise BuildError(errors)
            _link([*defines, str(source / "kernels.cpp"), *objects], out)
    except OSError as error:
        raise BuildError(str(error)) from error


if __name__ == "__main__":
    build_all(Path(__file__).resolve().parents[2])
