"""The search for options that fit: a ladder from comfortable to small, climbed down."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config import DEFAULT_CONTEXT
from .formula import CONTEXT_STEP, Shape, loading_bytes
from .needs import estimate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config import KVCacheType, ModelConfig
    from ..hardware import Device, HardwareState
    from .facts import ModelFacts
    from .use import MemoryUse

#: What a prediction may be short by, beside one percent: allocators keep some of what is freed.
_SLACK = 2 * 2**20

#: Of a GPU's free memory, what is left to other programs and to the screen.
_GPU_LEFT_FREE = 0.05


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a plan must allow for, beside the options.

    Attributes:
        n_parallel: sequences at the same time.
        n_outputs: positions per batch whose logits are kept.
        reserved: bytes of the host's memory that the caller will use himself.
        compute_factor: what an earlier attempt found compute buffers to be, beside the formula's.
    """

    n_parallel: int = 1
    n_outputs: int = 1
    reserved: int = 0
    compute_factor: float = 1.0


@dataclass(frozen=True)
class _Rung:
    """A step down: the cache's type, the tokens computed at a time, and the context at least."""

    kv_type: KVCacheType
    n_ubatch: int
    n_ctx: int


#: From best to smallest. Batches shrink first (they cost speed in long prompts only), then the
#: cache loses precision (q8_0 is nearly lossless), then context goes; q4_0 is heard in the answers.
_LADDER = (
    _Rung("f16", 512, DEFAULT_CONTEXT),
    _Rung("f16", 128, DEFAULT_CONTEXT),
    _Rung("q8_0", 128, DEFAULT_CONTEXT),
    _Rung("f16", 128, 2048),
    _Rung("q8_0", 128, 2048),
    _Rung("q8_0", 64, 1024),
    _Rung("q4_0", 64, 1024),
    _Rung("q8_0", 32, 512),
    _Rung("q4_0", 32, 512),
)


@dataclass(frozen=True)
class Candidate:
    """Options, and what they take."""

    shape: Shape
    repack: bool
    gpu_layers: int
    host: MemoryUse
    gpu: MemoryUse


class Search:
    """Candidates for one model on one machine, within what ``config`` leaves open."""

    def __init__(
        self,
        facts: ModelFacts,
        config: ModelConfig,
        hardware: HardwareState,
        device: Device | None,
        demand: Demand,
    ) -> None:
        self.config, self.hardware, self.device = config, hardware, device
        if facts.tied and not hardware.repacks_embedding:
            facts = dataclasses.replace(facts, output=dataclasses.replace(facts.output, by_type={}))
        self.facts = facts
        self.demand = demand

    def best(self) -> Candidate:
        """Return the top of the ladder, whatever it takes on the host."""
        return next(self._candidates())

    def within(self, room: int, *, private: bool = False) -> Candidate | None:
        """Return the first candidate for which ``room`` suffices; None if there is none.

        ``private`` leaves mapped weights out of account.
        """
        for candidate in self._candidates():
            if self.need(candidate, private=private) <= room:
                return candidate
        return None

    def largest(self, room: int) -> Candidate | None:
        """Return the first candidate that fits, with the largest context that still does."""
        found = self.within(room)
        if found is None or self.config.n_ctx is not None:
            return found
        low = found.shape.n_ctx // CONTEXT_STEP
        high = max(low, self.facts.n_ctx_train // CONTEXT_STEP)
        while low < high:
            middle = (low + high + 1) // 2
            larger = self._candidate(
                dataclasses.replace(found.shape, n_ctx=middle * CONTEXT_STEP),
                repack=found.repack,
                gpu_layers=found.gpu_layers,
            )
            if self._fits_gpu(larger.gpu) and self.need(larger) <= room:
                low, found = middle, larger
            else:
                high = middle - 1
        return found

    def smallest(self) -> Candidate:
        """Return the candidate that takes the least of the host's memory."""
        return min(self._candidates(), key=self.need)

    def need(self, candidate: Candidate, *, private: bool = False) -> int:
        """Return what must be free for a candidate: its host memory, and what that may be short by.

        ``private`` leaves mapped weights out of account.
        """
        use = candidate.host
        loading = use.weights + use.overhead + loading_bytes(self.facts)
        most = max(use.total, loading)
        if private and self.config.mmap:
            most -= use.weights
        return most + _SLACK + use.private // 100

    def _candidates(self) -> Iterator[Candidate]:
        """Yield candidates from best to smallest, the device's memory respected."""
        for shape in self._shapes():
            for repack in self._repack_choices():
                for gpu_layers in self._layer_choices(shape):
                    yield self._candidate(shape, repack=repack, gpu_layers=gpu_layers)

    def _shapes(self) -> Iterator[Shape]:
        config, seen = self.config, set[Shape]()
        for rung in _LADDER:
            n_ctx = config.n_ctx or min(rung.n_ctx, self.facts.n_ctx_train)
            kv_type = rung.kv_type if config.kv_type == "auto" else config.kv_type
            if config.flash_attention == "off" and config.kv_type == "auto":
                kv_type = "f16"  # quantised values need flash attention
            shape = Shape(
                n_ctx=n_ctx,
                n_ubatch=min(config.n_ubatch or rung.n_ubatch, config.n_batch, n_ctx),
                kv_type=kv_type,
                flash_attention=config.flash_attention != "off",
                n_parallel=self.demand.n_parallel,
                n_outputs=self.demand.n_outputs,
            )
            if shape not in seen:
                seen.add(shape)
                yield shape

    def _repack_choices(self) -> tuple[bool, ...]:
        if self.device is not None:  # llama.cpp then prefers memory that the GPU can read
            return (False,)
        if self.config.repack != "auto":
            return (self.config.repack == "on",)
        parts = (*self.facts.layers, self.facts.output)
        helps = any(part.repacked(self.hardware.repacked_types) for part in parts)
        return (True, False) if helps else (False,)

    def _layer_choices(self, shape: Shape) -> Iterator[int]:
        """Yield numbers of layers for the GPU: as asked for; or what fits there, and else none."""
        all_layers = self.facts.n_layer + 1
        wanted = self.config.gpu_layers
        if self.device is not None and wanted != "auto":
            yield all_layers if wanted < 0 else min(wanted, all_layers)
            return
        if self.device is not None and (most := self._most_layers(shape)):
            yield most
        yield 0

    def _most_layers(self, shape: Shape) -> int:
        low, high = 0, self.facts.n_layer + 1
        while low < high:
            middle = (low + high + 1) // 2
            if self._fits_gpu(self._candidate(shape, repack=False, gpu_layers=middle).gpu):
                low = middle
            else:
                high = middle - 1
        return low

    def _fits_gpu(self, use: MemoryUse) -> bool:
        if self.device is None or self.config.gpu_layers != "auto":
            return True
        return use.total <= self.device.free * (1 - _GPU_LEFT_FREE)

    def _candidate(self, shape: Shape, *, repack: bool, gpu_layers: int) -> Candidate:
        types = self.hardware.repacked_types if repack else frozenset()
        host, gpu = estimate(self.facts, shape, gpu_layers=gpu_layers, repacked_types=types)
        host, gpu = self._corrected(host), self._corrected(gpu)
        if gpu_layers and self.device is not None and self.device.kind == "igpu":
            shared = dataclasses.replace(gpu, overhead=0)
            host = host + shared  # an integrated GPU's memory is the host's
        return Candidate(shape, repack, gpu_layers, host, gpu)

    def _corrected(self, use: MemoryUse) -> MemoryUse:
        return dataclasses.replace(use, compute=int(use.compute * self.demand.compute_factor))
