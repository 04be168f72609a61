"""From a header to a model that is ready, within the memory it was given."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .cache import MemoryStore
from .hardware import read_process_memory
from .loading import load
from .memory import (
    Demand,
    MemoryPlan,
    MemoryReceipt,
    grammar_bytes,
    plan_memory,
    write_receipt,
)
from .native import NativeContext, read_hardware
from .rope import Rope, choose_rope
from .states import StateFolder, TieredStore, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from .cache import StateStore
    from .config import ModelConfig
    from .gguf_file import GGUFInfo
    from .hardware import HardwareState
    from .native import NativeModel

logger = logging.getLogger("edge_llama")

#: The options that a saved state depends on, beside the model and the version of llama.cpp.
_STATE_SETTINGS = ("kv_type", "flash_attention", "device", "gpu_layers", "n_parallel")


@dataclass(frozen=True)
class Opened:
    """Weights and a context, by a plan; ``config`` has nothing left to choose."""

    plan: MemoryPlan
    config: ModelConfig
    rope: Rope
    native: NativeModel
    context: NativeContext

    def make_store(self, info: GGUFInfo) -> StateStore:
        """Return where states go of conversations that leave the cache."""
        config, parked = self.config, self.config.parked_mib
        if parked is not None:
            max_bytes = parked << 20
        else:
            max_bytes = 0 if self.plan.budget is not None else self.plan.host.kv_cache
        if config.state_dir is None:
            return MemoryStore(max_bytes)
        settings = {name: getattr(config, name) for name in _STATE_SETTINGS}
        settings["rope"] = dataclasses.asdict(self.rope)
        settings["llama.cpp"] = importlib.metadata.version("llama-cpp-python")
        identity = fingerprint(info.parts, settings)
        root = Path(config.state_dir).expanduser()
        folder = StateFolder(root, identity, max_bytes=config.state_dir_bytes)
        return TieredStore(max_bytes, folder)

    def receipt(self) -> MemoryReceipt:
        """Hold what it takes now beside the plan."""
        buffers = (*self.native.buffers, *self.context.buffers)
        return write_receipt(self.plan, buffers, read_process_memory())


def open_native(
    info: GGUFInfo, config: ModelConfig, on_progress: Callable[[float], object] | None = None
) -> Opened:
    """Plan, load the weights, and make the context; nothing stays allocated after an error.

    Raises:
        OutOfMemoryError: it does not fit.
        DeviceError: the device asked for cannot be had.
        LoadCancelledError, ModelFileError, NativeLibraryError: as :func:`~edge_llama.loading.load`.
    """
    hardware = read_hardware()
    plan = plan_memory(info, config, hardware, _demand(info, config))
    native = load(info, plan.apply(config), on_progress)
    try:
        return _with_context(info, config, hardware, plan, native)
    except BaseException:
        native.close()
        raise


def _with_context(
    info: GGUFInfo,
    config: ModelConfig,
    hardware: HardwareState,
    plan: MemoryPlan,
    native: NativeModel,
) -> Opened:
    """Make the context; once more, smaller, if llama.cpp needs more for it than was planned.

    Compute buffers are the part that is estimated. Their pages are not touched yet, so a context
    that turns out too large has not exceeded the budget.
    """
    opened = _open_context(info, plan, config, native)
    if plan.budget is None or plan.gpu_layers:
        return opened
    buffers = opened.context.buffers
    allocated = sum(one.nbytes for one in buffers if one.kind == "compute" and one.on_host)
    if plan.total + allocated - plan.host.compute <= plan.budget:
        return opened
    opened.context.close()
    factor = allocated / plan.host.compute
    logger.info("compute buffers are %.2f times what was planned; planning again", factor)
    plan = plan_memory(
        info, config, hardware, dataclasses.replace(_demand(info, config), compute_factor=factor)
    )
    return _open_context(info, plan, config, native)


def _demand(info: GGUFInfo, config: ModelConfig) -> Demand:
    """Return what to allow for; within a budget also for a grammar, which may come at any time."""
    sequences = config.n_parallel
    reserved = (config.parked_mib or 0) << 20
    if config.budget is not None:
        reserved += grammar_bytes(info.n_vocab)
    return Demand(n_parallel=sequences, n_outputs=sequences, reserved=reserved)


def _open_context(
    info: GGUFInfo, plan: MemoryPlan, config: ModelConfig, native: NativeModel
) -> Opened:
    for note in plan.notes:
        logger.info(note)
    chosen = plan.apply(config)
    rope = choose_rope(info, config, plan.n_ctx)
    context = NativeContext(native, chosen, n_ctx=plan.n_ctx, rope=rope)
    return Opened(plan, chosen, rope, native, context)
