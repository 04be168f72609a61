"""Plans against real processes: what they predicted, and that budgets hold."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import builders
import pytest

from edge_llama import Model, Sampling, StateError
from edge_llama.hardware import lock_limit, numa_nodes, resident_memory
from edge_llama.memory.formula import compute_bytes
from edge_llama_convert import Recipe, convert, plan

if TYPE_CHECKING:
    from conftest import RunCLI

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MIB = 2**20

#: Opens a model, fills its context in one prefill, and prints the receipt. The rest of the input
#: keeps the process alive.
FILL = """
import dataclasses, json, sys
from edge_llama import Model, Sampling

with Model.open(sys.argv[1], **json.loads(sys.argv[2])) as model:
    tokens = [i % 30000 for i in range(model.n_ctx - 1)]
    model.generate(tokens, sampling=Sampling(max_tokens=1, temperature=0))
    receipt = model.memory()
    facts = dataclasses.asdict(receipt)
    facts["predicted"], facts["growth"] = receipt.plan.host.total, receipt.growth
    print(json.dumps(facts), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with a large cache, so that every part of a plan counts."""
    folder = tmp_path_factory.mktemp("roomy")
    builders.build_tiny_checkpoint(
        folder / "roomy",
        changes={
            "hidden_size": 256,
            "intermediate_size": 1024,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "num_hidden_layers": 4,
        },
    )
    convert(plan(folder / "roomy", recipe=Recipe.Q8_0), folder / "roomy.gguf")
    return folder / "roomy.gguf"


def start(path: Path, options: dict[str, Any]) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    process = subprocess.Popen(
        [sys.executable, "-c", FILL, str(path), json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def measure(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    process, facts = start(path, options)
    process.communicate()
    assert process.returncode == 0
    return facts


@pytest.mark.parametrize(
    "options",
    [
        {"n_ctx": 512},
        {"n_ctx": 1024, "n_ubatch": 32, "kv_type": "q4_0"},
        {"n_ctx": 2048, "n_batch": 2048, "n_ubatch": 2048},
        {"n_ctx": 4096},
        {"n_ctx": 4096, "flash_attention": "on"},
        {"n_ctx": 4096, "n_ubatch": 128, "kv_type": "q8_0"},
        {"memory": "160MiB"},
    ],
    ids=str,
)
def test_prediction_and_measurement(roomy: Path, options: dict[str, Any]) -> None:
    facts = measure(roomy, options)
    assert facts["predicted"] == pytest.approx(facts["growth"], rel=0.05)
    planned, measured = facts["plan"]["host"], facts["host"]
    # Small contexts without flash attention are planned a little less exactly.
    is_exact = facts["plan"]["flash_attention"] or facts["plan"]["n_ctx"] > 512
    slack = (0.05 if is_exact else 0.2) * MIB
    for part in ("weights", "kv_cache", "compute", "output"):
        assert planned[part] == pytest.approx(measured[part], rel=0.02, abs=slack), part
    if "memory" in options:
        assert facts["process"]["peak"] <= 160 * MIB
        assert facts["plan"]["n_ctx"] > 4096


def test_the_command_line_stays_within_its_budget(embedded: Path, run_cli: RunCLI) -> None:
    schema = {"type": "object", "properties": {"number": {"type": "integer"}}}
    for more in ((), ("--json-schema", json.dumps(schema))):  # a grammar is allowed for
        arguments = ("--memory", "215MiB", "--json", "--max-tokens", "12", *more, str(embedded))
        result = run_cli("generate", *arguments, "Count to three. " * 60)
        reply = json.loads(result.stdout)
        assert reply["usage"]["prompt_tokens"] > 200
        assert reply["memory"]["plan"]["budget"] == 215 * MIB
        assert reply["memory"]["process"]["peak"] <= 215 * MIB
    assert "memory is short: the KV cache is q8_0" in result.stderr
    result = run_cli("generate", "--memory", "100MiB", str(embedded), "Hi")
    assert result.returncode == 1
    smallest = re.search(r"works is (\d+) MiB", result.stderr)
    assert smallest
    result = run_cli(
        "generate", "--memory", f"{smallest[1]}MiB", "--max-tokens", "1", str(embedded), "Hi"
    )
    assert result.returncode == 0, result.stderr


def test_options_that_do_nothing_say_so(embedded: Path, run_cli: RunCLI) -> None:
    if numa_nodes() > 1:
        pytest.skip("this machine has several memory nodes")
    arguments = ("--numa", "distribute", "--ctx", "256", "--threads", "1", "--max-tokens", "1")
    result = run_cli("generate", *arguments, "--flash-attention", "off", str(embedded), "Hi")
    assert result.returncode == 0, result.stderr
    assert "numa=distribute does nothing: this machine has one memory node" in result.stderr


def test_two_processes_pay_for_the_weights_once(embedded: Path, tmp_path: Path) -> None:
    """Proportional memory counts a page that two processes map as a half."""
    path = tmp_path / "own.gguf"  # which nobody else maps
    shutil.copyfile(embedded, path)
    first, alone = start(path, {"n_ctx": 256})
    second, shared = start(path, {"n_ctx": 256})
    first.communicate()
    second.communicate()
    weights = alone["host"]["weights"]
    assert alone["process"]["resident"] == pytest.approx(shared["process"]["resident"], rel=0.05)
    saved = alone["process"]["proportional"] - shared["process"]["proportional"]
    libraries = 16 * MIB  # which the two share as well, if nobody else has them mapped
    assert 0.9 * weights / 2 < saved < 1.1 * weights / 2 + libraries
    assert shared["process"]["private"] < alone["process"]["private"] - 0.95 * weights


def test_the_receipt_of_an_open_model(embedded: Path) -> None:
    with Model.open(embedded, n_ctx=512, kv_type="q8_0") as model:
        receipt = model.memory()
        assert receipt.host.kv_cache == pytest.approx(30 * 512 * 384 * 34 / 32, rel=0.01)
        assert receipt.host.kv_cache == pytest.approx(receipt.plan.host.kv_cache, rel=0.01)
        assert receipt.host.repacked == receipt.gpu.total == 0
        assert receipt.process.peak is not None
        assert receipt.process.peak >= receipt.process.resident
        assert model.config.kv_type == "q8_0"
        assert model.generate("Hi", sampling=Sampling(max_tokens=2)).n_ctx == 512
    with pytest.raises(StateError):
        model.memory()


def test_a_wrong_prediction_is_noticed_before_it_costs(
    embedded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If compute buffers are three times what the formula says, a smaller context is opened."""
    monkeypatch.setattr(
        "edge_llama.memory.needs.compute_bytes",
        lambda facts, shape: compute_bytes(facts, shape) // 3,
    )
    budget = resident_memory() + 185 * MIB
    with Model.open(embedded, memory=budget, n_ubatch=512) as model:
        receipt = model.memory()
        assert receipt.plan.total <= budget
        assert receipt.plan.host.compute == pytest.approx(receipt.host.compute, rel=0.1)
        assert receipt.host.compute > 12 * MIB


def test_locked_weights_stay(embedded: Path) -> None:
    if lock_limit() is not None:
        pytest.skip("this user may lock little memory (ulimit -l)")
    with Model.open(embedded, n_ctx=256, mlock=True) as model:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        locked = re.search(r"VmLck:\s+(\d+) kB", status)
        assert locked
        assert int(locked[1]) * 1024 >= 0.99 * model.memory().host.weights


def test_weights_that_are_copied_are_no_mapping(embedded: Path) -> None:
    def count() -> int:
        return Path("/proc/self/maps").read_text(encoding="utf-8").count(str(embedded))

    before = count()  # by a model that other tests have open
    with Model.open(embedded, n_ctx=256, mmap=False) as model:
        assert count() == before
        assert model.memory().host.weights == pytest.approx(92.1 * MIB, rel=0.01)
