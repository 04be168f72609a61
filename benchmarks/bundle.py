"""Build applications with PyInstaller, run them, and compare them with the same under Python.

    python benchmarks/bundle.py [--keep FOLDER]

In an environment with ``edge-llama[demo]``, PySide6-Essentials and pyinstaller, and nothing else if
the sizes are to mean something. It fails if a bundle does not build, or does not answer. "First
text" is when the program first writes; ``desktop_chat`` does so when its answer is complete.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"

#: What each program is told, so that it answers and ends.
PROGRAMS = {"ask": ["Say hello."], "desktop_chat": ["--self-test"]}
RUNS = 5


def build(name: str, folder: Path) -> tuple[Path, float]:
    """Build a program; return its folder and the seconds it took."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm"]
    for option, part in (("--distpath", "dist"), ("--workpath", "build"), ("--specpath", "build")):
        command += [option, str(folder / part)]
    command.append(str(EXAMPLES / f"{name}.py"))
    run = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        sys.exit(run.stderr)
    return folder / "dist" / name, time.perf_counter() - started


def first_text(command: list[str], folder: Path) -> float:
    """Run a program to its end; return the seconds until its first output."""
    # A bundle must not live on the Python it was built with.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    environment["QT_QPA_PLATFORM"] = "offscreen"
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=environment
    ) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        first = process.stdout.read(1)
        seconds = time.perf_counter() - started
        _, errors = process.communicate(timeout=300)
    if process.returncode or not first:
        sys.exit(f"{command[0]} failed ({process.returncode}): {errors.decode()}")
    return seconds


def nbytes(folder: Path, pattern: str = "*") -> int:
    """Return what the files take together; what links to another is counted once."""
    files = [path for path in folder.rglob(pattern) if path.is_file() and not path.is_symlink()]
    return sum(path.stat().st_size for path in files)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the bundles stay")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary)
        print("| program | build s | MB | without the model MB | first text s | under Python s |")
        print("|---|---|---|---|---|---|")
        for name, arguments in PROGRAMS.items():
            folder, seconds = build(name, root)
            suffix = ".exe" if sys.platform == "win32" else ""
            bundled = [str(folder / f"{name}{suffix}"), *arguments]
            plain = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
            times: dict[str, list[float]] = {"bundled": [], "plain": []}
            for _ in range(RUNS):  # interleaved, so that both see the same machine
                times["bundled"].append(first_text(bundled, root))
                times["plain"].append(first_text(plain, root))
            total, model = nbytes(folder), nbytes(folder, "*.gguf")
            medians = [f"{statistics.median(values):.2f}" for values in times.values()]
            sizes = f"{total / 1e6:.0f} | {(total - model) / 1e6:.0f}"
            print(f"| {name} | {seconds:.0f} | {sizes} | {' | '.join(medians)} |", flush=True)


if __name__ == "__main__":
    main()
