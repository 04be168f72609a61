"""Rotary positions: what llama.cpp is told of them by option, and how far a model then reaches.

llama.cpp's side is llama_context's constructor and ``rope_yarn`` in ggml-cpu/ops.cpp; the rules
are named as in transformers' modeling_rope_utils.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .config import ModelConfig
    from .gguf_file import GGUFInfo

#: Llama 3's scaling: a divisor for each pair of elements.
_FACTORS = "rope_freqs.weight"

_YARN_OPTIONS = ("yarn_orig_ctx", "yarn_beta_fast", "yarn_beta_slow")


@dataclass(frozen=True, kw_only=True)
class Rope:
    """What llama.cpp is told; None leaves it to the file.

    Attributes:
        scaling: the rule by which positions are stretched.
        factor: by how much.
        freq_base: theta.
        original_context: tokens in which YaRN counts a pair's turns.
        beta_fast: turns from which on YaRN leaves a pair alone.
        beta_slow: turns up to which YaRN stretches a pair by the whole factor.
        magnitude: what the rotation multiplies queries and keys with, by option or by the file.
            llama.cpp does so again when it moves a key, so unless it is 1 none may be moved.
    """

    scaling: Literal["none", "linear", "yarn"] | None = None
    factor: float | None = None
    freq_base: float | None = None
    original_context: int | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    magnitude: float = 1.0


def choose_rope(info: GGUFInfo, config: ModelConfig, n_ctx: int) -> Rope:
    """Return what the options say for a context of ``n_ctx`` tokens."""
    kind, factor = _scaling(info, config)
    magnitude = info.hparams.rope_scaling.attention_factor
    if kind == "yarn" and factor > 1:
        magnitude *= 0.1 * math.log(factor) + 1
    if kind == "dynamic":  # llama.cpp knows a fixed base only
        base = _dynamic_base(info, config, factor, n_ctx)
        return Rope(scaling="none", freq_base=base, magnitude=magnitude)
    asked = None if config.rope_scaling == "auto" else kind
    return Rope(
        scaling=cast("Literal['none', 'linear', 'yarn'] | None", asked),
        factor=config.rope_factor,
        freq_base=config.rope_freq_base,
        original_context=config.yarn_orig_ctx,
        beta_fast=config.yarn_beta_fast,
        beta_slow=config.yarn_beta_slow,
        magnitude=magnitude,
    )


def reach(info: GGUFInfo, config: ModelConfig) -> int:
    """Return the context, in tokens, beyond which answers decay.

    It is what the model was trained on, stretched as the options say, and no more than a sliding
    window that llama.cpp ignores.
    """
    own, n_ctx = info.hparams.rope_scaling, info.context_length
    kind, factor = _scaling(info, config)
    if (config.rope_scaling, config.rope_factor, config.yarn_orig_ctx) != ("auto", None, None):
        if kind == "yarn":
            n_ctx = int((config.yarn_orig_ctx or own.original_context) * factor)
        else:
            n_ctx = int(n_ctx * factor / (1 if own.type == "none" else own.factor))
    return min(n_ctx, _window(info) or n_ctx)


def rope_notes(info: GGUFInfo, config: ModelConfig, n_ctx: int) -> Iterator[str]:
    """Yield sentences on a context beyond the model's reach, and on options that do nothing."""
    yield from _beyond(info, config, n_ctx)
    yield from _without_effect(info, config, n_ctx)
    kind, factor = _scaling(info, config)
    if any(tensor.name == _FACTORS for tensor in info.tensors):
        if config.rope_scaling == "none":
            yield f"rope_scaling=none leaves the scaling that is in the file's tensor {_FACTORS}"
        elif factor != 1 and (kind == config.rope_scaling or config.rope_factor is not None):
            yield f"rope_factor comes on top of the scaling in the file's tensor {_FACTORS}"


def _beyond(info: GGUFInfo, config: ModelConfig, n_ctx: int) -> Iterator[str]:
    limit = reach(info, config)
    if n_ctx > limit and limit == _window(info):
        yield (
            f"the model was trained with a sliding window of {limit} tokens, llama.cpp attends to "
            f"the whole context: its answers decay beyond --ctx {limit}"
        )
    elif n_ctx > limit and config.rope_freq_base is None:
        what = "was trained on" if limit == info.context_length else "is stretched to"
        yield (
            f"a context beyond the {limit} tokens the model {what} adds nothing: its answers decay "
            "there (rope_scaling and rope_factor stretch it)"
        )


def _without_effect(info: GGUFInfo, config: ModelConfig, n_ctx: int) -> Iterator[str]:
    kind, factor = _scaling(info, config)
    if kind != "yarn":
        for name in _YARN_OPTIONS:
            if getattr(config, name) is not None:
                yield f"{name} does nothing: the rope scaling is {kind}"
    if kind == "none" and config.rope_factor is not None:
        yield "rope_factor does nothing: the rope scaling is none"
    if config.rope_scaling in {"linear", "yarn", "dynamic"} and factor == 1:
        yield f"rope_scaling={kind} does nothing without a rope_factor"
    elif kind == "dynamic" and n_ctx <= info.context_length:
        yield (
            f"rope_scaling=dynamic does nothing within the {info.context_length} tokens the model "
            "was trained on"
        )


def _scaling(info: GGUFInfo, config: ModelConfig) -> tuple[str, float]:
    """Return the rule and the factor that are in effect."""
    own = info.hparams.rope_scaling
    kind = own.type if config.rope_scaling == "auto" else config.rope_scaling
    if kind == "none":
        return kind, 1.0
    return kind, config.rope_factor or (1.0 if kind == "dynamic" else own.factor)


def _dynamic_base(info: GGUFInfo, config: ModelConfig, factor: float, n_ctx: int) -> float:
    """Return the base that "dynamic" has for a text that fills the context."""
    base, dim = config.rope_freq_base or info.hparams.rope_freq_base, info.hparams.n_rot
    stretch = factor * max(n_ctx / info.context_length, 1) - (factor - 1)
    return float(base * stretch ** (dim / max(dim - 2, 1)))


def _window(info: GGUFInfo) -> int:
    """Return the sliding window that llama.cpp does not heed, 0 for none."""
    return info.hparams.n_swa if info.architecture == "llama" else 0
