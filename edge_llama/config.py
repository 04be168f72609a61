"""All options of the runtime, each declared once, here.

The command line takes names, defaults and help from these classes; functions take the classes,
never copies of their fields.
"""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from .errors import InvalidOptionError

KVType = Literal["f16", "q8_0", "q4_0"]

#: What goes when a conversation outgrows the context: the oldest tokens, without reading the rest
#: again; the oldest turns; or nothing.
Overflow = Literal["shift", "drop-turns", "refuse"]

_Options = TypeVar("_Options", "ModelConfig", "Sampling")

#: Context chosen when none is asked for, unless the model was trained on less (tokens).
DEFAULT_CONTEXT = 4096


def _option(default: Any, description: str) -> Any:
    return field(default=default, metadata={"help": description})


def _check(name: str, value: object, *, ok: bool, allowed: str) -> None:
    if not ok:
        raise InvalidOptionError(f"{name} = {value!r} is not possible", hint=f"Use {allowed}.")


def _is_int(value: object, low: int, high: int = 2**31 - 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: object, low: float, high: float = math.inf) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """How a model is opened. Immutable; ``InvalidOptionError`` names a field that is wrong."""

    n_ctx: int | None = _option(
        None, "Context in tokens; by default 4096, or less if the model was trained on less."
    )
    threads: int | None = _option(None, "CPU threads; by default one per available core.")
    n_batch: int = _option(512, "Prompt tokens computed at a time.")
    kv_type: KVType = _option("f16", "Type of the KV cache; q8_0 halves its memory.")
    gpu_layers: int = _option(-1, "Layers to keep on the GPU, if this build has one; -1 for all.")
    n_parallel: int = _option(4, "Generations that may run at the same time, sharing the context.")
    overflow: Overflow = _option(
        "shift", "When a conversation outgrows the context, drop its oldest tokens, turns or none."
    )
    parked_mib: int | None = _option(
        None, "Host memory for conversations that left the cache; by default the cache's size."
    )
    mmap: bool = _option(True, "Map the weights instead of copying them into memory.")  # noqa: FBT003

    def __post_init__(self) -> None:
        _check(
            "n_ctx",
            self.n_ctx,
            ok=self.n_ctx is None or _is_int(self.n_ctx, 8),
            allowed="a number of tokens from 8, or None",
        )
        _check(
            "threads",
            self.threads,
            ok=self.threads is None or _is_int(self.threads, 1, 512),
            allowed="1 to 512, or None",
        )
        _check("n_batch", self.n_batch, ok=_is_int(self.n_batch, 1, 16384), allowed="1 to 16384")
        _check(
            "kv_type",
            self.kv_type,
            ok=self.kv_type in get_args(KVType),
            allowed=" or ".join(get_args(KVType)),
        )
        _check("n_parallel", self.n_parallel, ok=_is_int(self.n_parallel, 1, 64), allowed="1 to 64")
        _check(
            "overflow",
            self.overflow,
            ok=self.overflow in get_args(Overflow),
            allowed=" or ".join(get_args(Overflow)),
        )
        _check(
            "parked_mib",
            self.parked_mib,
            ok=self.parked_mib is None or _is_int(self.parked_mib, 0),
            allowed="a number of MiB from 0, or None",
        )
        _check("gpu_layers", self.gpu_layers, ok=_is_int(self.gpu_layers, -1), allowed="-1 or more")
        _check("mmap", self.mmap, ok=isinstance(self.mmap, bool), allowed="True or False")

    @property
    def n_threads(self) -> int:
        """Threads to use: as configured, else one per core this process may run on."""
        if self.threads is not None:
            return self.threads
        affinity = getattr(os, "sched_getaffinity", None)
        return (len(affinity(0)) if affinity is not None else os.cpu_count()) or 1


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen and when to end. Defaults are llama.cpp's.

    ``temperature=0`` is greedy. The filters apply in llama.cpp's order: penalties, top-k, top-p,
    min-p, temperature.
    """

    temperature: float = _option(0.8, "0 is greedy, higher is more varied.")
    top_k: int = _option(40, "Keep the k most likely tokens; 0 keeps all.")
    top_p: float = _option(0.95, "Keep the likeliest tokens up to this probability; 1 keeps all.")
    min_p: float = _option(0.05, "Drop tokens below this fraction of the likeliest; 0 keeps all.")
    repeat_penalty: float = _option(1.0, "Divide the logits of recent tokens by this; 1 is off.")
    frequency_penalty: float = _option(0.0, "Subtract this per earlier occurrence; 0 is off.")
    presence_penalty: float = _option(0.0, "Subtract this once if it occurred; 0 is off.")
    penalty_window: int = _option(64, "How many recent tokens the penalties look at.")
    seed: int | None = _option(None, "Same seed, same text; by default a new one each time.")
    max_tokens: int | None = _option(None, "End after this many tokens; by default at the context.")
    stop: tuple[str, ...] = _option((), "End before this text; may be given several times.")

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        elif isinstance(self.stop, list):
            object.__setattr__(self, "stop", tuple(self.stop))
        for name, low, high in (
            ("temperature", 0.0, math.inf),
            ("top_p", 0.0, 1.0),
            ("min_p", 0.0, 1.0),
            ("repeat_penalty", 1e-6, math.inf),
            ("frequency_penalty", -math.inf, math.inf),
            ("presence_penalty", -math.inf, math.inf),
        ):
            value = getattr(self, name)
            allowed = f"a number from {low:g} to {high:g}"
            _check(name, value, ok=_is_number(value, low, high), allowed=allowed)
        _check("top_k", self.top_k, ok=_is_int(self.top_k, 0), allowed="0 or more")
        _check(
            "penalty_window",
            self.penalty_window,
            ok=_is_int(self.penalty_window, 0, 65536),
            allowed="0 to 65536",
        )
        _check(
            "seed",
            self.seed,
            ok=self.seed is None or _is_int(self.seed, 0, 2**32 - 2),
            allowed="0 to 4294967294, or None",
        )
        _check(
            "max_tokens",
            self.max_tokens,
            ok=self.max_tokens is None or _is_int(self.max_tokens, 1),
            allowed="1 or more, or None",
        )
        stop: object = self.stop  # what the caller gave, whatever the annotation says
        _check(
            "stop",
            stop,
            ok=isinstance(stop, tuple) and all(isinstance(text, str) and text for text in stop),
            allowed="a tuple of non-empty strings",
        )

    @property
    def has_penalties(self) -> bool:
        """Whether any penalty is on, so that earlier tokens matter."""
        return self.penalty_window > 0 and (
            self.repeat_penalty != 1.0 or bool(self.frequency_penalty or self.presence_penalty)
        )


def with_options(options: _Options, changes: dict[str, Any]) -> _Options:
    """Return ``options`` with ``changes``; InvalidOptionError for a name that does not exist."""
    known = [item.name for item in dataclasses.fields(options)]
    for name in changes:
        if name not in known:
            raise InvalidOptionError(
                f"unknown option {name!r} of {type(options).__name__}",
                hint=f"Known options: {', '.join(known)}.",
            )
    return dataclasses.replace(options, **changes) if changes else options
