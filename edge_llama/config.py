"""How a model is opened: each option declared once, here.

The command line takes names, defaults and help from this class; functions take the class, never
copies of its fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .errors import InvalidOptionError
from .hardware import default_threads
from .rules import Either, Integer, Name, Number, OneOf, Size, check, option
from .units import parse_bytes

KVCacheType = Literal["f16", "q8_0", "q4_0"]
KVType = Literal["auto", "f16", "q8_0", "q4_0"]
Switch = Literal["auto", "on", "off"]
GPULayers = int | Literal["auto"]
NUMAStrategy = Literal["off", "distribute", "isolate", "numactl"]

#: How positions are stretched; "auto" is as the file says. "dynamic" is NTK scaling by the base,
#: fixed at what a text that fills the context has.
RopeScalingRule = Literal["auto", "none", "linear", "yarn", "dynamic"]

#: What goes when a conversation outgrows the context: the oldest tokens, without reading the rest
#: again; the oldest turns; or nothing.
Overflow = Literal["shift", "drop-turns", "refuse"]

#: Context chosen when none is asked for, unless the model was trained on less (tokens).
DEFAULT_CONTEXT = 4096

_TRUTH = OneOf((True, False))


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """How a model is opened. Immutable; ``InvalidOptionError`` names a field that is wrong.

    What is left to choose ("auto", None) is chosen by :func:`~edge_llama.memory.plan_memory`, for
    the memory that is given or free; what is set is kept to.
    """

    memory: str | int | None = option(
        None,
        Size(),
        "Most memory the whole process may use, e.g. 1.5GiB; by default what is free.",
    )
    n_ctx: int | None = option(
        None,
        Integer(8),
        "Context in tokens; by default what fits the memory given, else 4096 or what the model "
        "was trained on.",
    )
    kv_type: KVType = option(
        "auto",
        OneOf(get_args(KVType)),
        "Type of the KV cache; auto is f16 if it fits, else q8_0, else q4_0.",
    )
    flash_attention: Switch = option(
        "auto",
        OneOf(get_args(Switch)),
        "Attention that needs no memory for all scores; auto is on if memory is short or there is "
        "a GPU, else off: on the CPU long conversations are answered faster without it.",
    )
    n_batch: int = option(512, Integer(1, 16384), "Prompt tokens handed over at a time.")
    n_ubatch: int | None = option(
        None,
        Integer(1, 16384),
        "Prompt tokens computed at a time; by default as n_batch, less if memory is short.",
    )
    repack: Switch = option(
        "auto",
        OneOf(get_args(Switch)),
        "Copy weights into a layout that is faster on this CPU; takes memory.",
    )
    device: str = option(
        "auto", Name(), "cpu, or a GPU: cuda, metal, vulkan, or a device's own name."
    )
    gpu_layers: GPULayers = option(
        "auto",
        Either((OneOf(("auto",)), Integer(-1))),
        "Layers to keep on the GPU; auto is what fits, -1 all.",
    )
    threads: int | None = option(
        None, Integer(1, 512), "CPU threads; by default one per physical performance core."
    )
    mmap: bool = option(
        True,  # noqa: FBT003 - a default
        _TRUTH,
        "Map the weights instead of copying them into memory.",
    )
    mlock: bool = option(
        False,  # noqa: FBT003 - a default
        _TRUTH,
        "Keep the weights from being swapped out.",
    )
    numa: NUMAStrategy = option(
        "off",
        OneOf(get_args(NUMAStrategy)),
        "Where threads run on machines with several memory nodes.",
    )
    rope_scaling: RopeScalingRule = option(
        "auto",
        OneOf(get_args(RopeScalingRule)),
        "How positions are stretched for a longer context: linear, yarn, dynamic or none; auto is "
        "as the file says.",
    )
    rope_factor: float | None = option(
        None, Number(1, 1024), "By how much positions are stretched, e.g. 4."
    )
    rope_freq_base: float | None = option(
        None, Number(1, above=True), "Base frequency (theta) of the positions."
    )
    yarn_orig_ctx: int | None = option(
        None, Integer(1), "Context in tokens before YaRN stretched it."
    )
    yarn_beta_fast: float | None = option(
        None, Number(0, above=True), "Turns from which on YaRN leaves positions alone; usually 32."
    )
    yarn_beta_slow: float | None = option(
        None, Number(0, above=True), "Turns up to which YaRN stretches positions; usually 1."
    )
    n_parallel: int = option(
        4, Integer(1, 64), "Generations that may run at the same time, sharing the context."
    )
    overflow: Overflow = option(
        "shift",
        OneOf(get_args(Overflow)),
        "When a conversation outgrows the context, drop its oldest tokens, turns or none.",
    )
    parked_mib: int | None = option(
        None,
        Integer(0),
        "Host memory for conversations that left the cache, in MiB; by default the cache's size, "
        "or none within a given memory.",
    )
    state_dir: str | None = option(
        None,
        Name(),
        "Folder that keeps what conversations have read, for later processes to go on from.",
    )
    state_dir_size: str | int = option(
        "1GiB", Size(), "Most that the folder may hold; the least recently used states go first."
    )

    isolate: bool = option(
        False,  # noqa: FBT003 - a default
        _TRUTH,
        "Run the model in a child process, whose crash is an error instead of the end.",
    )

    def __post_init__(self) -> None:
        if str(self.rope_scaling) in {"llama3", "longrope"}:
            raise InvalidOptionError(
                f"rope_scaling = {self.rope_scaling!r} is not possible: it is made of tensors that "
                "only the file can have",
                hint="Convert the checkpoint (edge-llama convert), which writes them; by option "
                "use linear, yarn or dynamic.",
            )
        check(self)

    @property
    def n_threads(self) -> int:
        """Threads to use: as configured, else one per physical performance core."""
        return self.threads or default_threads()

    @property
    def budget(self) -> int | None:
        """``memory`` in bytes."""
        return None if self.memory is None else parse_bytes(self.memory)

    @property
    def state_dir_bytes(self) -> int:
        """``state_dir_size`` in bytes."""
        return parse_bytes(self.state_dir_size)
