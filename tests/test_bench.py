"""What ``edge-llama bench`` measures, and the arithmetic behind its share of the bandwidth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import smallmodels

from edge_llama import ModelConfig, inspect
from edge_llama.evaluate.bandwidth import array_bytes, largest_cache
from edge_llama.evaluate.bench import Spread, bytes_per_token
from edge_llama.hardware import HardwareState
from edge_llama.memory import plan_memory

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from ggufs import GGUF

    RunCLI = Callable[..., subprocess.CompletedProcess[str]]

MIB = 2**20


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "small.gguf"
    path.parent.mkdir()
    path.write_bytes(smallmodels.small_llama().to_bytes())
    return path


def test_all_figures_and_their_spread(run_cli: RunCLI, small: Path) -> None:
    run = run_cli("bench", small.stem, "-p", "40", "-n", "6", "-r", "3", "--json")
    assert run.returncode == 0, run.stderr
    facts = json.loads(run.stdout)
    assert facts["workload"] == {"n_prompt": 40, "n_tokens": 6, "rounds": 3}
    for name in ("load", "first_token", "prefill", "decode", "bandwidth", "bandwidth_share"):
        spread = facts[name]
        assert 0 < spread["lowest"] <= spread["median"] <= spread["highest"], name
    assert facts["first_token"]["lowest"] > facts["load"]["lowest"]
    most = facts["bytes_per_token"] * facts["decode"]["highest"] / facts["bandwidth"]["lowest"]
    assert facts["bandwidth_share"]["median"] <= most
    # The array for the bandwidth is not part of what the model took.
    assert facts["memory"]["process"]["peak"] < facts["array_bytes"] + 64 * MIB
    shown = run_cli("bench", small.stem, "-p", "40", "-n", "6", "-r", "2")
    assert "lowest" in shown.stdout
    assert "2 rounds" in shown.stderr


def test_wrong_numbers_are_wrong_usage(run_cli: RunCLI, small: Path) -> None:
    assert run_cli("bench", small.stem, "--rounds", "0").returncode == 2


def write(model: GGUF, path: Path) -> Path:
    path.write_bytes(model.to_bytes())
    return path


def test_what_a_token_reads(tmp_path: Path) -> None:
    info = inspect(write(smallmodels.small_llama(), tmp_path / "tied.gguf"))
    plan = plan_memory(info, ModelConfig(n_ctx=256, kv_type="f16"), HardwareState())
    weights = sum(tensor.nbytes for tensor in info.tensors)
    assert bytes_per_token(info, plan, 0) == weights
    keys_and_values = 2 * smallmodels.LAYERS * smallmodels.WIDTH // 2 * 2  # f16, half the heads
    assert bytes_per_token(info, plan, 10) == weights + 10 * keys_and_values
    # Of four experts two are used.
    mixture = inspect(write(smallmodels.small_llama(experts=4), tmp_path / "mixture.gguf"))
    experts = sum(tensor.nbytes for tensor in mixture.tensors if "_exps." in tensor.name)
    total = sum(tensor.nbytes for tensor in mixture.tensors)
    assert bytes_per_token(mixture, plan, 0) == total - experts // 2


def test_the_array_is_larger_than_the_caches_if_memory_allows(tmp_path: Path) -> None:
    for index, size in enumerate(("48K", "2M", "320M")):
        folder = tmp_path / "sys/devices/system/cpu/cpu0/cache" / f"index{index}"
        folder.mkdir(parents=True)
        (folder / "size").write_text(size + "\n", encoding="ascii")
    assert largest_cache(tmp_path) == 320 * MIB
    assert largest_cache(tmp_path / "nowhere") is None
    assert array_bytes(320 * MIB, None) == 640 * MIB
    assert array_bytes(None, 64_000 * MIB) == 256 * MIB
    assert array_bytes(320 * MIB, 400 * MIB) == 100 * MIB


def test_spread() -> None:
    assert Spread.of([3.0, 1.0, 9.0]) == Spread(3.0, 1.0, 9.0)
