"""Sentences on what a plan gave up, and on options that do nothing on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config import DEFAULT_CONTEXT
from ..units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config import ModelConfig
    from ..hardware import HardwareState
    from .facts import ModelFacts
    from .plan import MemoryPlan


def notes_on(
    plan: MemoryPlan, config: ModelConfig, hardware: HardwareState, facts: ModelFacts
) -> tuple[str, ...]:
    """Return what someone who opens a model by this plan should know."""
    return (*_given_up(plan, config, facts), *_without_effect(plan, config, hardware))


def slow_answers(plan: MemoryPlan, config: ModelConfig) -> tuple[str, ...]:
    """Return what someone should know who lets a model generate that is opened by this plan."""
    may_choose = config.flash_attention == "auto" and config.kv_type in {"auto", "f16"}
    if plan.flash_attention and may_choose and plan.device == "cpu":
        return ("memory is short: answers in long conversations come slower (flash attention)",)
    return ()


def _given_up(plan: MemoryPlan, config: ModelConfig, facts: ModelFacts) -> Iterator[str]:
    if config.n_ctx is None and plan.n_ctx < min(DEFAULT_CONTEXT, facts.n_ctx_train):
        yield f"memory is short: the context is {plan.n_ctx} tokens"
    if config.kv_type == "auto" and plan.kv_type != "f16":
        yield f"memory is short: the KV cache is {plan.kv_type}"
    is_whole = not plan.flash_attention or plan.n_ubatch >= min(config.n_batch, plan.n_ctx)
    if config.n_ubatch is None and not is_whole:
        yield f"memory is short: prompts are read {plan.n_ubatch} tokens at a time"
    layers = facts.n_layer + 1
    if config.gpu_layers == "auto" and plan.device != "cpu" and plan.gpu_layers < layers:
        yield f"{plan.gpu_layers} of {layers} layers fit into the memory of {plan.device}"


def _without_effect(
    plan: MemoryPlan, config: ModelConfig, hardware: HardwareState
) -> Iterator[str]:
    if plan.device == "cpu" and config.gpu_layers not in {"auto", 0}:
        yield "gpu_layers does nothing: there is no GPU in use"
    if config.numa != "off" and hardware.numa_nodes == 1:
        yield f"numa={config.numa} does nothing: this machine has one memory node"
    if config.mlock and hardware.lock_limit is not None and hardware.lock_limit < plan.host.weights:
        yield (
            f"mlock does nothing for most of the weights: {format_bytes(hardware.lock_limit)} may "
            "be locked (ulimit -l)"
        )
    if config.repack == "on" and not hardware.repacked_types:
        yield "repack=on does nothing: llama.cpp has no other layout for this CPU"
    if config.n_ubatch is not None and config.n_ubatch > config.n_batch:
        yield f"n_ubatch beyond n_batch does nothing: {config.n_batch} tokens come at a time"
