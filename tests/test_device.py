"""The way to a GPU, on whatever device this llama.cpp has; ``scripts/vulkan.sh`` makes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from edge_llama import DeviceError, MemoryReceipt, Model, Reply, Sampling
from edge_llama.native import read_hardware

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20
DEVICES = read_hardware().devices
needs_device = pytest.mark.skipif(not DEVICES, reason="this llama.cpp has no GPU device")


def answers(path: Path, **options: Any) -> tuple[list[Reply], MemoryReceipt]:
    """Two greedy answers, of which the second finds the first's prompt in the cache."""
    sampling = Sampling(temperature=0, max_tokens=4, logprobs=5)
    prompts = ("The capital of France is", "The capital of France is Paris. That of Italy is")
    with Model.open(path, n_ctx=256, n_ubatch=64, **options) as model:
        replies = [model.generate(text, sampling=sampling, raw=True) for text in prompts]
        return replies, model.memory()


def test_a_backend_that_is_not_there_says_how_to_get_it(embedded: Path) -> None:
    backends = read_hardware().backends
    assert "cpu" in backends
    missing = next(name for name in ("sycl", "cuda", "metal") if name not in backends)
    with pytest.raises(DeviceError, match=f"compiled without {missing}") as caught:
        Model.open(embedded, device=missing)
    assert "pip install --force-reinstall --no-cache-dir llama-cpp-python==" in caught.value.hint


def test_the_cpu_is_used_if_asked_for(embedded: Path) -> None:
    replies, receipt = answers(embedded, device="cpu")
    assert receipt.plan.gpu_layers == receipt.gpu.total == 0
    assert [reply.completion_tokens for reply in replies] == [4, 4]


@needs_device
@pytest.mark.parametrize("layers", ["auto", 12], ids=str)
def test_layers_on_the_device_give_the_same_answer(embedded: Path, layers: int | str) -> None:
    expected, _ = answers(embedded, device="cpu")
    replies, receipt = answers(embedded, device=DEVICES[0].backend, gpu_layers=layers)
    assert [reply.tokens for reply in replies] == [reply.tokens for reply in expected]
    assert replies[1].cached_tokens >= 4
    # The CPU quantises activations to 8 bits before it multiplies, a GPU does not.
    for reply, other in zip(replies, expected, strict=True):
        likeliest = {token.token: token.logprob for token in reply.logprobs[0].top}
        for token in other.logprobs[0].top[:3]:
            assert likeliest[token.token] == pytest.approx(token.logprob, abs=0.3)
    plan = receipt.plan
    assert plan.device == DEVICES[0].name
    assert plan.gpu_layers == (31 if layers == "auto" else layers)
    for part in ("weights", "kv_cache"):
        assert getattr(receipt.gpu, part) > 0
        for planned, measured in ((plan.gpu, receipt.gpu), (plan.host, receipt.host)):
            assert getattr(planned, part) == pytest.approx(
                getattr(measured, part), rel=0.01, abs=0.05 * MIB
            )
    assert 0 < receipt.gpu.compute <= plan.gpu.compute
    assert receipt.host.compute == pytest.approx(plan.host.compute, rel=0.05)


@needs_device
def test_no_layers_on_the_device_takes_nothing_there(embedded: Path) -> None:
    _, receipt = answers(embedded, device=DEVICES[0].name, gpu_layers=0)
    assert receipt.gpu.total == 0
