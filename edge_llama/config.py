"""How a model is opened: each option declared once, here.

The command line takes names, defaults and help from this class; functions take the class, never
copies of its fields.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, get_args

from .rules import Integer, OneOf, check, option

KVType = Literal["f16", "q8_0", "q4_0"]

#: Context chosen when none is asked for, unless the model was trained on less (tokens).
DEFAULT_CONTEXT = 4096


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """How a model is opened. Immutable; ``InvalidOptionError`` names a field that is wrong."""

    n_ctx: int | None = option(
        None,
        Integer(8),
        "Context in tokens; by default 4096, or less if the model was trained on less.",
    )
    threads: int | None = option(
        None, Integer(1, 512), "CPU threads; by default one per available core."
    )
    n_batch: int = option(512, Integer(1, 16384), "Prompt tokens computed at a time.")
    kv_type: KVType = option(
        "f16", OneOf(get_args(KVType)), "Type of the KV cache; q8_0 halves its memory."
    )
    gpu_layers: int = option(
        -1, Integer(-1), "Layers to keep on the GPU, if this build has one; -1 for all."
    )
    mmap: bool = option(
        True,  # noqa: FBT003 - a default
        OneOf((True, False)),
        "Map the weights instead of copying them into memory.",
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def n_threads(self) -> int:
        """Threads to use: as configured, else one per core this process may run on."""
        if self.threads is not None:
            return self.threads
        affinity = getattr(os, "sched_getaffinity", None)
        return (len(affinity(0)) if affinity is not None else os.cpu_count()) or 1
