"""Planning is a pure function: the machine and the model are values here."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import pytest
from model_shapes import SHAPES

from edge_llama import DeviceError, ModelConfig, OutOfMemoryError, inspect
from edge_llama.hardware import Device, HardwareState
from edge_llama.memory import Demand, MemoryPlan, comfortable, plan_memory
from edge_llama.memory.search import Search
from edge_llama.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from edge_llama import GGUFInfo

MIB = 2**20
MACHINE = HardwareState(total=8 * 2**30, available=6 * 2**30, process=50 * MIB, cores=4)
GPU = Device(
    name="Vulkan0",
    backend="vulkan",
    description="a card",
    kind="gpu",
    free=2 * 2**30,
    total=2 * 2**30,
)


def plan(
    path: Path, machine: HardwareState = MACHINE, demand: Demand | None = None, **options: Any
) -> MemoryPlan:
    return plan_memory(header(path), ModelConfig(**options), machine, demand)


@functools.cache
def header(path: Path) -> GGUFInfo:
    return inspect(path)


def test_the_defaults_where_memory_is_plenty(embedded: Path) -> None:
    chosen = plan(embedded)
    assert (chosen.n_ctx, chosen.kv_type, chosen.n_ubatch) == (4096, "f16", 128)
    assert not chosen.flash_attention
    assert (chosen.device, chosen.gpu_layers, chosen.threads) == ("cpu", 0, 4)
    assert not chosen.notes
    unknown = dataclasses.replace(MACHINE, available=None)
    assert plan(embedded, unknown) == chosen


@pytest.mark.parametrize("budget", [185, 190, 200, 220, 250, 300, 400, 1000])
def test_every_budget_is_kept_and_used(embedded: Path, budget: int) -> None:
    chosen = plan(embedded, memory=f"{budget}MiB")
    assert chosen.total <= budget * MIB
    if chosen.n_ctx < 8192:  # what it was trained on
        longer = plan(embedded, **_fixed(chosen, n_ctx=chosen.n_ctx + 256))
        assert longer.total > (budget - 4) * MIB, "a longer context would have fitted"
    assert bool(chosen.notes) == (budget < 280)


def _fixed(chosen: MemoryPlan, **changes: Any) -> dict[str, Any]:
    return {"kv_type": chosen.kv_type, "n_ubatch": chosen.n_ubatch, **changes}


def test_more_memory_never_buys_less(embedded: Path) -> None:
    plans = [plan(embedded, memory=size * MIB) for size in range(185, 420, 5)]
    quality = {"q4_0": 0, "q8_0": 1, "f16": 2}
    comfortable = [chosen for chosen in plans if chosen.n_ctx >= 4096]
    assert len(comfortable) > 20
    types = [quality[chosen.kv_type] for chosen in comfortable]
    assert types == sorted(types)
    assert [bool(chosen.n_ctx >= 4096) for chosen in plans] == sorted(
        chosen.n_ctx >= 4096 for chosen in plans
    )


def test_too_little_names_the_smallest_budget_that_works(embedded: Path) -> None:
    with pytest.raises(OutOfMemoryError, match=r"the smallest budget that works is (\d+) MiB") as e:
        plan(embedded, memory="100MiB")
    smallest = int(str(e.value).split(" works is ")[1].split()[0])
    assert "--memory" in e.value.hint
    assert plan(embedded, memory=smallest * MIB).total <= smallest * MIB
    with pytest.raises(OutOfMemoryError):
        plan(embedded, memory=(smallest - 4) * MIB)


def test_what_is_set_is_kept_or_refused(embedded: Path) -> None:
    chosen = plan(embedded, memory="230MiB", n_ctx=3000, n_ubatch=16)
    assert (chosen.n_ctx, chosen.n_ubatch) == (3000, 16)
    with pytest.raises(OutOfMemoryError, match="context 8192, KV cache f16") as caught:
        plan(embedded, memory="230MiB", n_ctx=8192, kv_type="f16")
    assert "leave n_ctx (--ctx) and kv_type (--kv-type) to the plan" in caught.value.hint
    assert plan(embedded, memory="280MiB", n_ctx=8192).kv_type == "q8_0"
    assert plan(embedded, memory="270MiB", n_ctx=4096, flash_attention="off").kv_type == "f16"


def test_without_a_budget_the_plan_fits_what_is_free(embedded: Path) -> None:
    short = dataclasses.replace(MACHINE, available=190 * MIB)
    chosen = plan(embedded, short)
    assert chosen.host.total <= 190 * MIB
    assert (chosen.n_ctx, chosen.kv_type) == (4096, "q8_0")
    assert any("KV cache is q8_0" in note for note in chosen.notes)
    # The file's pages can be dropped and read again, so the weights alone are no reason to refuse.
    chosen = plan(embedded, dataclasses.replace(MACHINE, available=110 * MIB))
    assert chosen.host.private < 60 * MIB
    assert any("weights do not fit into free memory" in note for note in chosen.notes)
    with pytest.raises(OutOfMemoryError, match=r"of which 20\.0 MiB are free"):
        plan(embedded, dataclasses.replace(MACHINE, available=20 * MIB))


def test_parallel_sequences_and_reserved_memory_count(embedded: Path) -> None:
    one = plan(embedded, n_ctx=2048)
    four = plan(embedded, demand=Demand(n_parallel=4, n_outputs=4), n_ctx=2048)
    assert four.host.output == 4 * one.host.output == 4 * 49152 * 4
    assert four.n_parallel == 4
    less = plan(embedded, memory="400MiB", demand=Demand(reserved=150 * MIB))
    assert less.total - 150 * MIB <= 250 * MIB < plan(embedded, memory="400MiB").total


def test_a_plan_leaves_nothing_to_choose(embedded: Path) -> None:
    config = ModelConfig(memory="200MiB")
    chosen = plan_memory(header(embedded), config, MACHINE)
    applied = chosen.apply(config)
    assert (applied.n_ctx, applied.kv_type) == (chosen.n_ctx, chosen.kv_type)
    assert applied.flash_attention == "on"
    assert (applied.repack, applied.gpu_layers, applied.threads) == ("off", 0, 4)


def test_weights_are_repacked_if_that_helps_and_fits(embedded: Path) -> None:
    info = header(embedded)
    types = frozenset({"Q4_1"})
    machine = dataclasses.replace(MACHINE, repacked_types=types)
    chosen = plan_memory(info, ModelConfig(), machine)
    assert chosen.repack
    assert chosen.host.repacked == info.bytes_by_type["Q4_1"]
    short = plan_memory(info, ModelConfig(memory="280MiB"), machine)
    assert not short.repack
    assert short.n_ctx >= 4096
    assert not plan_memory(info, ModelConfig(repack="off"), machine).repack
    assert not plan_memory(info, ModelConfig(), MACHINE).repack  # there is no other layout
    other = dataclasses.replace(MACHINE, repacked_types=frozenset({"Q4_K"}))
    assert not plan_memory(info, ModelConfig(), other).repack  # nothing of that type
    forced = plan_memory(info, ModelConfig(repack="on"), MACHINE)
    assert any("repack=on does nothing" in note for note in forced.notes)


def test_flash_attention_only_where_it_is_the_better_choice(embedded: Path) -> None:
    """On the CPU it makes long conversations slow; it saves memory, and time on a GPU."""
    config = ModelConfig()
    assert plan(embedded).apply(config).flash_attention == "off"
    quantised = plan(embedded, kv_type="q8_0")
    assert (quantised.apply(config).flash_attention, quantised.notes) == ("on", ())
    assert plan(embedded, flash_attention="on").n_ubatch == 512
    reading = plan(embedded, demand=Demand(reads_only=True))
    assert (reading.flash_attention, reading.n_ubatch, reading.notes) == (True, 512, ())

    short = plan(embedded, memory="280MiB")
    assert (short.flash_attention, short.kv_type, short.n_ctx >= 4096) == (True, "f16", True)
    assert any("flash attention" in note for note in short.notes)
    assert not plan(embedded, memory="300MiB").flash_attention
    asked_for = plan(embedded, flash_attention="on", memory="280MiB")
    assert not any("flash attention" in note for note in asked_for.notes)

    machine = dataclasses.replace(MACHINE, devices=(GPU,), backends=("vulkan", "cpu"))
    there = plan(embedded, machine)
    assert (there.flash_attention, there.apply(config).flash_attention) == (True, "auto")


def test_weights_that_do_not_stay_in_memory_are_read_for_few_large_batches() -> None:
    search = Search(SHAPES["Llama-2-7B"].facts(), ModelConfig(), MACHINE, None, Demand())
    found = search.within(3 * 2**30, private=True)
    assert found is not None
    assert (found.shape.flash_attention, found.shape.n_ubatch) == (True, 512)


def test_all_scores_of_a_long_context_take_little() -> None:
    facts = SHAPES["TinyLlama-1.1B"].facts()
    batches = {n_ctx: comfortable(facts, n_ctx, "f16").n_ubatch for n_ctx in (4096, 8192, 131072)}
    assert batches == {4096: 128, 8192: 64, 131072: 32}
    assert comfortable(facts, 4096, "q8_0").flash_attention


def test_repacking_goes_after_the_matrix_of_scores(embedded: Path) -> None:
    machine = dataclasses.replace(MACHINE, repacked_types=frozenset({"Q4_1"}))
    plans = [plan(embedded, machine, memory=size * MIB) for size in range(200, 420, 5)]
    both = [(chosen.repack, not chosen.flash_attention) for chosen in plans if chosen.n_ctx >= 4096]
    steps = list(dict.fromkeys(both))
    assert steps[-2:] == [(True, False), (True, True)]


def test_layers_go_to_the_gpu_for_as_long_as_they_fit(embedded: Path) -> None:
    machine = dataclasses.replace(MACHINE, devices=(GPU,), backends=("vulkan", "cpu"))
    everything = plan(embedded, machine)
    assert (everything.device, everything.gpu_layers) == ("Vulkan0", 31)
    assert everything.host.kv_cache == 0
    assert everything.gpu.kv_cache == 90 * MIB
    assert everything.host.weights < 32 * MIB  # the embedding stays

    small = dataclasses.replace(machine, devices=(dataclasses.replace(GPU, free=150 * MIB),))
    some = plan(embedded, small)
    assert 0 < some.gpu_layers < 31
    assert some.gpu.total <= 150 * MIB
    assert some.gpu.kv_cache + some.host.kv_cache == 90 * MIB
    assert any(f"{some.gpu_layers} of 31 layers fit" in note for note in some.notes)

    none = dataclasses.replace(machine, devices=(dataclasses.replace(GPU, free=20 * MIB),))
    assert plan(embedded, none).gpu_layers == 0
    assert plan(embedded, machine, device="cpu").gpu_layers == 0
    assert plan(embedded, machine, gpu_layers=5).gpu_layers == 5
    assert plan(embedded, machine, gpu_layers=-1).gpu_layers == 31


def test_memory_shared_with_the_gpu_counts_once_for_the_host(embedded: Path) -> None:
    integrated = dataclasses.replace(GPU, kind="igpu", free=6 * 2**30)
    machine = dataclasses.replace(MACHINE, devices=(integrated,), backends=("vulkan", "cpu"))
    shared = plan(embedded, machine)
    assert shared.gpu_layers == 31
    assert shared.host.kv_cache == 90 * MIB


def test_a_large_model_on_a_small_machine() -> None:
    """Not read from a file: 7B at 4 bits (3.5 GiB) where 4 GiB are free."""
    from edge_llama.memory import Shape, estimate

    facts = SHAPES["Llama-2-7B"].facts()
    host, _ = estimate(facts, Shape(n_ctx=2048, n_ubatch=128))
    assert host.kv_cache == 2**30
    assert 4.4 * 2**30 < host.total < 4.8 * 2**30


@pytest.mark.parametrize(
    ("wanted", "machine", "message", "hint"),
    [
        (
            "cuda",
            MACHINE,
            "compiled without cuda",
            'CMAKE_ARGS="-DGGML_CUDA=on" pip install --force-reinstall --no-cache-dir llama-cpp-',
        ),
        ("vulkan", MACHINE, "without vulkan", "https://abetlen.github.io/llama-cpp-python/whl/"),
        (
            "vulkan",
            dataclasses.replace(MACHINE, backends=("vulkan", "cpu")),
            "has no such device",
            "vulkaninfo",
        ),
        ("tpu", MACHINE, "no device 'tpu'", "vulkan"),
        (
            "vulkan1",
            dataclasses.replace(MACHINE, devices=(GPU,), backends=("vulkan", "cpu")),
            "has no such device",
            "vulkaninfo",
        ),
    ],
)
def test_a_device_that_cannot_be_had(
    embedded: Path, wanted: str, machine: HardwareState, message: str, hint: str
) -> None:
    with pytest.raises(DeviceError, match=message) as caught:
        plan(embedded, machine, device=wanted)
    assert hint in caught.value.hint


def test_a_device_by_its_backend_or_name(embedded: Path) -> None:
    other = dataclasses.replace(GPU, name="CUDA0", backend="cuda", free=GPU.free * 2)
    machine = dataclasses.replace(MACHINE, devices=(GPU, other), backends=("cuda", "vulkan", "cpu"))
    assert plan(embedded, machine).device == "CUDA0"
    assert plan(embedded, machine, device="Vulkan").device == "Vulkan0"
    assert plan(embedded, machine, device="cuda0").device == "CUDA0"


def test_options_that_do_nothing_say_so(embedded: Path) -> None:
    limited = dataclasses.replace(MACHINE, lock_limit=64 * 1024)
    chosen = plan(embedded, limited, numa="distribute", mlock=True, n_ctx=16384, gpu_layers=3)
    text = "\n".join(chosen.notes)
    assert "numa=distribute does nothing" in text
    assert "mlock does nothing for most of the weights: 64.0 KiB may be locked" in text
    assert "beyond the 8192 tokens the model was trained on" in text
    assert "gpu_layers does nothing" in text
    server = dataclasses.replace(MACHINE, numa_nodes=2)
    assert not plan(embedded, server, numa="distribute", mlock=True).notes


@pytest.mark.parametrize(
    ("text", "size"),
    [("1.5GiB", 3 * 2**29), ("800 MB", 800_000_000), ("2G", 2**31), ("123", 123), ("1kb", 1000)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size
    assert abs(parse_bytes(format_bytes(size)) - size) <= size * 0.01


@pytest.mark.parametrize("text", ["", "GiB", "1.5 apples", "-3MB", "1e9", "1.5.2GB"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_bytes(text)
