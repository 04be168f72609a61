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
        reserved: bytes of the host's memory to leave for other things.
        compute_factor: what an earlier attempt found compute buffers to be, beside the formula's.
        reads_only: nothing is generated, texts are only read.
    """

    n_parallel: int = 1
    n_outputs: int = 1
    reserved: int = 0
    compute_factor: float = 1.0
    reads_only: bool = False


@dataclass(frozen=True)
class _Rung:
    """A step down: the cache's type, the tokens computed at a time, and the context at least.

    ``scores``: attention keeps the matrix of all scores instead of being flash attention.
    """

    kv_type: KVCacheType
    n_ubatch: int
    n_ctx: int
    scores: bool = False


#: From best to smallest. First goes the speed of answers that have much to look back on: on the
#: CPU they come up to twice as fast without flash attention, and long prompts a tenth slower
#: (``benchmarks/decode.py``). Then batches shrink (they cost speed in long prompts only), then
#: the cache loses precision (q8_0 is nearly lossless), then context goes; q4_0 is heard in the
#: answers.
_LADDER = (
    _Rung("f16", 128, DEFAULT_CONTEXT, scores=True),
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


#: Most that the matrix of scores takes, unless that leaves too few tokens at a time.
_SCORES_BYTES, _FEWEST = 128 * 2**20, 32


def comfortable(facts: ModelFacts, n_ctx: int, kv_type: KVCacheType) -> Shape:
    """Return what a context on the CPU is made with where memory is not short."""
    rung = next(rung for rung in _LADDER if rung.scores == (kv_type == "f16"))
    n_ubatch = _tokens_at_a_time(facts, n_ctx, rung)
    return Shape(n_ctx=n_ctx, n_ubatch=n_ubatch, kv_type=kv_type, flash_attention=not rung.scores)


def _tokens_at_a_time(facts: ModelFacts, n_ctx: int, rung: _Rung) -> int:
    tokens = rung.n_ubatch
    if rung.scores:
        for_one = (4 + 2) * facts.n_head * n_ctx  # float32, and copies in the values' type
        while tokens > _FEWEST and tokens * for_one > _SCORES_BYTES:
            tokens //= 2
    return tokens


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

        ``private`` leaves mapped weights out of account: they are read from the file again for
        every batch, so that batches had better be large.
        """
        for candidate in self._candidates():
            if private and not candidate.shape.flash_attention and self._may_be_flash:
                continue
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
        for shape, repack in self._steps():
            for gpu_layers in self._layer_choices(shape):
                yield self._candidate(shape, repack=repack, gpu_layers=gpu_layers)

    def _steps(self) -> Iterator[tuple[Shape, bool]]:
        """Yield shapes, with and without repacking, which gains more than the matrix of scores."""
        shapes, choices = list(self._shapes()), self._repack_choices()
        alike = 1 if shapes[0].flash_attention else 2
        for repack in choices:
            for shape in shapes[:alike]:
                yield shape, repack
        for shape in shapes[alike:]:
            for repack in choices:
                yield shape, repack

    @property
    def _may_be_flash(self) -> bool:
        return self.config.flash_attention != "off"

    def _keeps_scores(self, kv_type: KVCacheType, rung: _Rung) -> bool:
        """Whether attention works without flash attention on a rung."""
        if self.config.flash_attention != "auto" or kv_type != "f16":
            return not self._may_be_flash
        return rung.scores and self.device is None and not self.demand.reads_only

    def _shapes(self) -> Iterator[Shape]:
        config, seen = self.config, set[Shape]()
        for rung in _LADDER:
            n_ctx = config.n_ctx or min(rung.n_ctx, self.facts.n_ctx_train)
            kv_type = rung.kv_type if config.kv_type == "auto" else config.kv_type
            if config.flash_attention == "off" and config.kv_type == "auto":
                kv_type = "f16"  # quantised values need flash attention
            scores = self._keeps_scores(kv_type, rung)
            if rung.scores and not scores:
                continue
            n_ubatch = _tokens_at_a_time(self.facts, n_ctx, rung)
            shape = Shape(
                n_ctx=n_ctx,
                n_ubatch=min(config.n_ubatch or n_ubatch, config.n_batch, n_ctx),
                kv_type=kv_type,
                flash_attention=not scores,
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
