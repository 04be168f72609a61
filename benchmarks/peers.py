"""llama.cpp's own tools, as the benchmarks run them, and the measuring of a process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class Usage:
    """What a finished process took: seconds, and its peak resident size in bytes."""

    wall: float
    cpu: float
    peak: int

    def __add__(self, other: Usage) -> Usage:
        """Return the usage of two processes that ran one after the other."""
        return Usage(self.wall + other.wall, self.cpu + other.cpu, max(self.peak, other.peak))


def measure(*command: str | Path) -> Usage:
    """Run a command, its output thrown away, and return what it took (POSIX).

    Python programs keep their compiled modules, as those do that are installed.
    RuntimeError when it fails.
    """
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    os.sync()  # nobody waits for what the one before left to be written
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {command}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Usage(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


@dataclass(frozen=True)
class LlamaCpp:
    """llama.cpp's two-step conversion."""

    tools: Path
    source: Path
    python: str

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> LlamaCpp:
        """Return the peer that the command line names."""
        return cls(options.tools.absolute(), options.llama_cpp.absolute(), options.python)

    def to_16_bit(self, checkpoint: Path, out: Path, kind: str = "bf16") -> Usage:
        """Run step one: convert_hf_to_gguf.py."""
        script = self.source / "convert_hf_to_gguf.py"
        return measure(self.python, script, checkpoint, "--outtype", kind, "--outfile", out)

    def quantise(self, source: Path, out: Path, kind: str, imatrix: str | None = None) -> Usage:
        """Run step two: llama-quantize."""
        weights = ("--imatrix", imatrix) if imatrix else ()
        return measure(self.tools / "llama-quantize", *weights, source, out, kind.upper())

    def split(self, source: Path, out: Path, size: str) -> Usage:
        """Divide a GGUF: llama-gguf-split; ``out`` is the names' beginning."""
        return measure(
            self.tools / "llama-gguf-split", "--split", "--split-max-size", size, source, out
        )


def add_peer_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where llama.cpp lies."""
    parser.add_argument(
        "--tools", type=Path, required=True, help="folder with llama-quantize and the others"
    )
    parser.add_argument(
        "--llama-cpp", type=Path, required=True, help="folder with convert_hf_to_gguf.py"
    )
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="a Python with torch and transformers, which convert_hf_to_gguf.py needs",
    )
