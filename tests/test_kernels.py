"""The fast kernels against ggml itself: the same bytes for every finite input."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import builders
import numpy as np
import pytest

from edge_llama_convert import convert, plan
from edge_llama_convert.ggml import GGMLType, load_ggml
from edge_llama_convert.kernels import Kernels, Outcome, load_kernels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

LEVELS = ["generic", "avx2", "avx512"]


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    loaded = load_kernels()
    if loaded is None and not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        pytest.skip("no C++ compiler: the package was built without its kernels")
    assert loaded is not None, "there is a compiler, so the build should have made the kernels"
    return loaded


def distributions() -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Arrays of 64 Ki values, of every kind that takes another path through the searches."""
    rng = np.random.default_rng(7)
    n = 64 * 1024
    normal = rng.normal(0, 0.02, n).astype(np.float32)
    yield "normal", normal
    yield "heavy tails", (rng.standard_t(2, n) * 0.01).astype(np.float32)
    yield "positive", np.abs(normal)
    yield "negative", -np.abs(normal)
    yield "zeros", np.zeros(n, np.float32)
    yield "negative zeros", np.full(n, -0.0, np.float32)
    yield "constant blocks", np.repeat(rng.normal(0, 1, n // 256), 256).astype(np.float32)
    spikes = np.zeros(n, np.float32)
    spikes[::311] = rng.normal(0, 1, len(spikes[::311]))
    yield "spikes", spikes
    yield "ties", (rng.integers(-8, 8, n) / 4).astype(np.float32)
    yield "integers", rng.integers(-127, 128, n).astype(np.float32)
    yield "alternating", (normal * np.where(np.arange(n) % 2, 1, -1)).astype(np.float32)
    yield "tiny", (rng.normal(0, 1, n) * 1e-38).astype(np.float32)
    yield "mixed scales", (normal * 10.0 ** rng.integers(-12, 4, n)).astype(np.float32)


def as_source(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[np.uint8]:
    return builders.pack(values, dtype).view(np.uint8)


def by_ggml(kind: GGMLType, raw: npt.NDArray[np.uint8], dtype: str, width: int) -> bytes:
    ggml = load_ggml()
    count = raw.nbytes // (4 if dtype == "F32" else 2)
    values = raw.view(np.float32) if dtype == "F32" else np.empty(count, np.float32)
    if dtype != "F32":
        ggml.to_float32(dtype, raw.ctypes.data, values.ctypes.data, count)
    rows = count // width
    out = np.zeros(rows * kind.row_bytes(width), np.uint8)
    ggml.quantise(kind, values.ctypes.data, out.ctypes.data, rows, width)
    return out.tobytes()


def by_kernels(
    kernels: Kernels, kind: GGMLType, raw: npt.NDArray[np.uint8], dtype: str, width: int
) -> bytes:
    rows = raw.nbytes // (4 if dtype == "F32" else 2) // width
    out = np.zeros(rows * kind.row_bytes(width), np.uint8)
    outcome = kernels.quantise(kind, dtype, raw.ctypes.data, out.ctypes.data, (rows, width))
    assert outcome is Outcome.DONE
    return out.tobytes()


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("kind", GGMLType, ids=lambda kind: kind.name)
def test_bytes_equal_ggml_s(kernels: Kernels, kind: GGMLType, dtype: str) -> None:
    for name, values in distributions():
        for width in (256, 512, 2048):
            raw = as_source(values, dtype)
            expected = by_ggml(kind, raw, dtype, width)
            assert by_kernels(kernels, kind, raw, dtype, width) == expected, f"{name}, {width}"


@pytest.mark.parametrize("rows", [1, 3, 7])
@pytest.mark.parametrize("kind", GGMLType, ids=lambda kind: kind.name)
def test_row_counts_that_do_not_fill_the_vectors(
    kernels: Kernels, kind: GGMLType, rows: int
) -> None:
    width = 576 if kind.block_elements <= 32 else 768
    values = np.random.default_rng(rows).normal(0, 1, rows * width).astype(np.float32)
    raw = as_source(values, "BF16")
    assert by_kernels(kernels, kind, raw, "BF16", width) == by_ggml(kind, raw, "BF16", width)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_not_finite_values_are_found_wherever_they_stand(
    kernels: Kernels, dtype: str, value: float
) -> None:
    for at in (0, 255, 256, 1000, 1023):
        values = np.zeros(1024, np.float32)
        values[at] = value
        raw = {
            "F32": values.view(np.uint8),
            "F16": values.astype(np.float16).view(np.uint8),
            "BF16": (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8),
        }[dtype]
        out = np.zeros(4096, np.uint8)
        outcome = kernels.quantise(
            GGMLType.Q8_0, dtype, raw.ctypes.data, out.ctypes.data, (1, 1024)
        )
        assert outcome is Outcome.NOT_FINITE


def test_overflow_is_told_apart(kernels: Kernels) -> None:
    values = np.full(256, 1e30, np.float32)
    out = np.zeros(4096, np.uint8)
    for kind in (GGMLType.F16, GGMLType.Q8_0, GGMLType.Q4_K):
        outcome = kernels.quantise(kind, "F32", values.ctypes.data, out.ctypes.data, (1, 256))
        assert outcome is Outcome.OVERFLOW


def test_a_row_that_does_not_fit_is_refused(kernels: Kernels) -> None:
    values, out = np.zeros(128, np.float32), np.zeros(4096, np.uint8)
    outcome = kernels.quantise(GGMLType.Q4_K, "F32", values.ctypes.data, out.ctypes.data, (1, 128))
    assert outcome is Outcome.UNSUPPORTED


def converted(source: Path, out: Path, **environment: str) -> bytes:
    script = (
        "import sys; from edge_llama_convert import convert, plan; "
        "from edge_llama_convert.kernels import load_kernels; k = load_kernels(); "
        "convert(plan(sys.argv[1], recipe='q4_k_m'), sys.argv[2], force=True); "
        "print(k.isa if k else 'none')"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(source), str(out)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    level = run.stdout.strip()
    assert level == "none" or environment.get("EDGE_LLAMA_KERNELS") != "0"
    return out.read_bytes()


@pytest.mark.parametrize("level", LEVELS)
def test_every_instruction_set_and_the_fall_back_give_the_same_file(
    kernels: Kernels, tmp_path: Path, level: str
) -> None:
    source = builders.build_tiny_checkpoint(
        tmp_path / "wide", changes={"hidden_size": 256, "intermediate_size": 512}
    )
    del kernels  # only asked for so that this skips without a compiler
    convert(plan(source, recipe="q4_k_m"), tmp_path / "best.gguf")
    best = (tmp_path / "best.gguf").read_bytes()
    assert converted(source, tmp_path / "x.gguf", EDGE_KERNELS_ISA=level) == best
    assert converted(source, tmp_path / "x.gguf", EDGE_LLAMA_KERNELS="0") == best
