"""From a header to a model that is ready, within the memory it was given."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .hardware import read_process_memory
from .loading import load
from .memory import Demand, MemoryPlan, MemoryReceipt, plan_memory, write_receipt
from .native import NativeContext, read_hardware

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import ModelConfig
    from .gguf_file import GGUFInfo
    from .hardware import HardwareState
    from .native import NativeModel

logger = logging.getLogger("edge_llama")


@dataclass(frozen=True)
class Opened:
    """Weights and a context, by a plan; ``config`` has nothing left to choose."""

    plan: MemoryPlan
    config: ModelConfig
    native: NativeModel
    context: NativeContext

    @property
    def parked_bytes(self) -> int:
        """Host memory for the states of conversations that left the cache, in bytes."""
        if self.config.parked_mib is not None:
            return self.config.parked_mib << 20
        return 0 if self.plan.budget is not None else self.plan.host.kv_cache

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
    plan = plan_memory(info, config, hardware, _demand(config))
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
    opened = _open_context(plan, config, native)
    allocated = opened.receipt().host.compute
    excess = allocated - plan.host.compute
    if plan.budget is None or plan.total + excess <= plan.budget or plan.gpu_layers:
        return opened
    opened.context.close()
    factor = allocated / plan.host.compute
    logger.info("compute buffers are %.2f times what was planned; planning again", factor)
    plan = plan_memory(
        info, config, hardware, dataclasses.replace(_demand(config), compute_factor=factor)
    )
    return _open_context(plan, config, native)


def _demand(config: ModelConfig) -> Demand:
    sequences = config.n_parallel
    parked = (config.parked_mib or 0) << 20
    return Demand(n_parallel=sequences, n_outputs=sequences, reserved=parked)


def _open_context(plan: MemoryPlan, config: ModelConfig, native: NativeModel) -> Opened:
    for note in plan.notes:
        logger.info(note)
    chosen = plan.apply(config)
    context = NativeContext(native, chosen, n_ctx=plan.n_ctx)
    return Opened(plan, chosen, native, context)
