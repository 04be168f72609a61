"""Choose the options of a model so that it fits, or say what would."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..device import choose_device
from ..errors import OutOfMemoryError
from ..rope import reach, rope_notes
from ..units import format_bytes
from .facts import read_facts
from .notes import notes_on, slow_answers
from .search import Candidate, Demand, Search

if TYPE_CHECKING:
    from ..config import KVCacheType, ModelConfig
    from ..gguf_file import GGUFInfo
    from ..hardware import HardwareState
    from .use import MemoryUse

#: By how much a process that starts anew may differ from this one, when an error names a budget.
_ANOTHER_START = 2 * 2**20

#: Of the memory that is free, what a plan without a budget leaves alone.
_LEFT_FREE = 0.05


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """How a model will be opened, and what that takes; sizes in bytes.

    Attributes:
        n_ctx: context in tokens.
        kv_type: type of the KV cache.
        flash_attention: whether attention avoids the matrix of all scores.
        n_ubatch: prompt tokens computed at a time.
        n_parallel: sequences that share the context.
        repack: whether weights are copied into the layout that is fast on this CPU.
        device: "cpu", or the GPU's name.
        gpu_layers: layers on the GPU, the output counting as one.
        threads: CPU threads.
        host: what is added to this process.
        gpu: what is taken on the device.
        process: what the process had before.
        reserved: what is left for others: parked conversations, and within a budget grammars.
        budget: what the whole process may have, if that was given.
        notes: what was chosen against the defaults, and options that do nothing here.
    """

    n_ctx: int
    kv_type: KVCacheType
    flash_attention: bool
    n_ubatch: int
    n_parallel: int
    repack: bool
    device: str
    gpu_layers: int
    threads: int
    host: MemoryUse
    gpu: MemoryUse
    process: int
    reserved: int
    budget: int | None
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """What the whole process will have in memory."""
        return self.process + self.host.total + self.reserved

    def apply(self, config: ModelConfig) -> ModelConfig:
        """Return ``config`` with nothing left to choose."""
        attention = config.flash_attention
        if not self.flash_attention:
            attention = "off"
        elif attention == "auto" and (self.device == "cpu" or self.kv_type != "f16"):
            attention = "on"  # on a GPU llama.cpp knows best, unless it cannot do without
        return dataclasses.replace(
            config,
            n_ctx=self.n_ctx,
            kv_type=self.kv_type,
            flash_attention=attention,
            n_ubatch=self.n_ubatch,
            repack="on" if self.repack else "off",
            device=self.device,
            gpu_layers=self.gpu_layers,
            threads=self.threads,
        )


def plan_memory(
    info: GGUFInfo, config: ModelConfig, hardware: HardwareState, demand: Demand | None = None
) -> MemoryPlan:
    """Plan how to open ``info`` on ``hardware``; a pure function.

    With a budget the context is the largest that fits, up to the model's reach, but
    layers on the GPU, an f16 cache and full batches come first for as long as 4096 tokens fit.
    Without one the context is 4096, less if the free memory does not hold it.

    Raises:
        OutOfMemoryError: nothing fits; the message names the smallest budget that would.
        DeviceError: the device asked for cannot be had.
    """
    facts = dataclasses.replace(read_facts(info), n_ctx_train=reach(info, config))
    demand = demand or Demand()
    search = Search(facts, config, hardware, choose_device(config.device, hardware), demand)
    budget = config.budget
    notes: list[str] = []
    if budget is not None:
        room = budget - hardware.process - demand.reserved
        found = search.largest(room)
    elif hardware.available is None:
        found = search.best()
    else:
        room = int(hardware.available * (1 - _LEFT_FREE)) - demand.reserved
        found = search.within(room)
        if found is None and facts.nbytes > room // 2:
            found = search.within(room // 2, private=True)
            if found is not None:
                notes.append(
                    "the weights do not fit into free memory: they will be read from the file "
                    "again and again, slowly"
                )
    if found is None:
        raise _does_not_fit(info, search)
    plan = _plan(found, search)
    notes += [*notes_on(plan, config, hardware, facts), *rope_notes(info, config, plan.n_ctx)]
    if not demand.reads_only:
        notes += slow_answers(plan, config)
    return dataclasses.replace(plan, notes=tuple(notes))


def _plan(found: Candidate, search: Search) -> MemoryPlan:
    config, hardware = search.config, search.hardware
    return MemoryPlan(
        n_ctx=found.shape.n_ctx,
        kv_type=found.shape.kv_type,
        flash_attention=found.shape.flash_attention,
        n_ubatch=found.shape.n_ubatch,
        n_parallel=found.shape.n_parallel,
        repack=found.repack,
        device=search.device.name if search.device else "cpu",
        gpu_layers=found.gpu_layers,
        threads=config.threads or hardware.cores,
        host=found.host,
        gpu=found.gpu,
        process=hardware.process,
        reserved=search.demand.reserved,
        budget=config.budget,
    )


def _does_not_fit(info: GGUFInfo, search: Search) -> OutOfMemoryError:
    config, hardware = search.config, search.hardware
    least = search.smallest()
    shape = least.shape
    need = hardware.process + search.demand.reserved + search.need(least) + _ANOTHER_START
    settings = f"context {shape.n_ctx}, KV cache {shape.kv_type}, {shape.n_ubatch} tokens at a time"
    megabytes = -(-need // 2**20)
    if config.budget is not None:
        remedies = [
            f"use memory='{megabytes}MiB' (--memory) or more",
            *_freeing(config),
            "use a model quantised to fewer bits",
        ]
        return OutOfMemoryError(
            f"{info.path}: {format_bytes(config.budget)} are not enough; the smallest budget that "
            f"works is {megabytes} MiB ({settings})",
            hint=f"{_joined(remedies)}.",
        )
    total, free = hardware.total or 0, hardware.available or 0
    remedies = ["close other programs"] if least.host.total <= total else []
    remedies += [*_freeing(config), "use a model quantised to fewer bits"]
    return OutOfMemoryError(
        f"{info.path}: needs {format_bytes(least.host.total)} of memory at least ({settings}); "
        f"this machine has {format_bytes(total)}, of which {format_bytes(free)} are free",
        hint=f"{_joined(remedies)}.",
    )


def _joined(remedies: list[str]) -> str:
    text = ", or ".join(remedies)
    return text[0].upper() + text[1:]


def _freeing(config: ModelConfig) -> list[str]:
    """Name the settings that keep the plan from going lower, as a remedy."""
    fixed = [
        flag
        for flag, is_set in (
            ("n_ctx (--ctx)", config.n_ctx is not None),
            ("kv_type (--kv-type)", config.kv_type in {"f16", "q8_0"}),
            ("n_ubatch", config.n_ubatch is not None),
            ("repack", config.repack == "on"),
        )
        if is_set
    ]
    return [f"leave {' and '.join(fixed)} to the plan"] if fixed else []
