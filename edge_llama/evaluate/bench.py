"""How fast a model runs here, in rounds, beside what the memory's bandwidth would allow."""

from __future__ import annotations

import dataclasses
import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..config import ModelConfig
from ..decoder import Part
from ..errors import BackendError
from ..gguf_file import inspect
from ..memory import Shape, kv_cache_bytes, read_facts
from ..opening import open_native
from .aside import Aside
from .bandwidth import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..gguf_file import GGUFInfo
    from ..memory import MemoryPlan, MemoryReceipt
    from ..native import NativeContext


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is measured: tokens that are read, tokens that are generated after them, and rounds."""

    n_prompt: int = 512
    n_tokens: int = 64
    rounds: int = 5


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum up some rounds."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Speeds are in tokens per second, times in seconds, memory in bytes.

    Attributes:
        model: the file.
        workload: what was measured.
        plan: how the model was opened.
        first_load: time of the first load, perhaps from the disk.
        load: time of the loads after it, one per round.
        first_token: from opening the model to the first token after a prompt of ``n_prompt``.
        prefill: speed of reading the prompt.
        decode: speed of generating, greedily, after the prompt.
        memory: what the process had when the first round was over.
        bytes_per_token: what a decode reads: the weights in use, and the KV cache.
        bandwidth: bytes per second that as many threads read; None if a GPU computes.
        bandwidth_share: of it, what the decodes of the same round reached.
        array_bytes: size of the array that was read for it.
    """

    model: Path
    workload: Workload
    plan: MemoryPlan
    first_load: float
    load: Spread
    first_token: Spread
    prefill: Spread
    decode: Spread
    memory: MemoryReceipt
    bytes_per_token: int
    bandwidth: Spread | None
    bandwidth_share: Spread | None
    array_bytes: int | None


class _Round(NamedTuple):
    load: float
    first_token: float
    prefill: float
    decode: float
    bandwidth: float


def bench(
    model: str | Path,
    config: ModelConfig | None = None,
    workload: Workload | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> Bench:
    """Measure a model; ``on_progress`` gets the rounds that are done, and all.

    Every round opens the model, reads a prompt of random tokens, reads it again now that all
    buffers have been touched, generates, closes the model, and measures the memory's bandwidth.

    Raises:
        ModelFileError, OutOfMemoryError, DeviceError, NativeLibraryError: as ``Model.open``.
    """
    path, work = Path(model), workload or Workload()
    info = inspect(path)
    config = dataclasses.replace(
        config or ModelConfig(), n_ctx=work.n_prompt + work.n_tokens, n_parallel=1
    )
    started = time.perf_counter()
    _close_again(info, config)
    first_load = time.perf_counter() - started
    draw = random.Random(1)  # noqa: S311 - not a secret
    prompt = [draw.randrange(info.n_vocab) for _ in range(work.n_prompt)]
    receipts: list[MemoryReceipt] = []
    rounds: list[_Round] = []
    reader: Reader | None = None
    with Aside() as aside:
        for number in range(work.rounds):
            found, receipt = _round(info, config, prompt, work.n_tokens, aside)
            receipts.append(receipt)
            if not receipt.plan.gpu_layers:
                reader = reader or Reader(receipt.plan.threads)  # after the first receipt
                found = found._replace(bandwidth=reader.measure())
            rounds.append(found)
            if on_progress is not None:
                on_progress(number + 1, work.rounds)
    plan = receipts[0].plan
    nbytes = bytes_per_token(info, plan, work.n_prompt + work.n_tokens // 2)
    load, first_token, prefill, decode, bandwidth = zip(*rounds, strict=True)
    share = [nbytes * found.decode / found.bandwidth for found in rounds if found.bandwidth]
    return Bench(
        model=path,
        workload=work,
        plan=plan,
        first_load=first_load,
        load=Spread.of(load),
        first_token=Spread.of(first_token),
        prefill=Spread.of(prefill),
        decode=Spread.of(decode),
        memory=receipts[0],
        bytes_per_token=nbytes,
        bandwidth=Spread.of(bandwidth) if reader else None,
        bandwidth_share=Spread.of(share) if reader else None,
        array_bytes=reader.nbytes if reader else None,
    )


def bytes_per_token(info: GGUFInfo, plan: MemoryPlan, n_past: int) -> int:
    """Return the bytes that generating one token reads, with ``n_past`` tokens in the cache.

    All weights but the embedding, of which one row is looked up, unless the output is tied to it;
    of experts those that are used; and the keys and values of the past.
    """
    tied = not any(tensor.name == "output.weight" for tensor in info.tensors)
    n_expert, n_used = max(info.hparams.n_expert, 1), max(*info.hparams.n_expert_used, 1)
    total = 0
    for tensor in info.tensors:
        if tensor.name == "token_embd.weight" and not tied:
            continue
        is_expert = "_exps." in tensor.name
        total += tensor.nbytes * n_used // n_expert if is_expert else tensor.nbytes
    shape = Shape(n_ctx=plan.n_ctx, n_ubatch=1, kv_type=plan.kv_type)
    return total + kv_cache_bytes(read_facts(info), shape) * n_past // shape.n_cells


def _close_again(info: GGUFInfo, config: ModelConfig) -> None:
    opened = open_native(info, config)
    opened.context.close()
    opened.native.close()


def _round(
    info: GGUFInfo, config: ModelConfig, prompt: list[int], n_tokens: int, aside: Aside
) -> tuple[_Round, MemoryReceipt]:
    started = time.perf_counter()
    opened = open_native(info, config)
    context = opened.context
    try:
        load = time.perf_counter() - started
        aside.run(lambda: _read(context, prompt), context)
        first_token = time.perf_counter() - started
        prefill, decode = aside.run(lambda: _measure(context, prompt, n_tokens), context)
        return _Round(load, first_token, prefill, decode, 0.0), opened.receipt()
    finally:
        context.close()
        opened.native.close()


def _measure(context: NativeContext, prompt: list[int], n_tokens: int) -> tuple[float, float]:
    """Return the speeds of prefill and decode in tokens per second."""
    context.clear()
    started = time.perf_counter()
    token = _read(context, prompt)
    read = time.perf_counter()
    for position in range(len(prompt), len(prompt) + n_tokens):
        token = _decode(context, [token], position)
    done = time.perf_counter()
    return len(prompt) / (read - started), n_tokens / (done - read)


def _read(context: NativeContext, prompt: list[int]) -> int:
    """Read the prompt and return the likeliest token after it."""
    token = 0
    for start in range(0, len(prompt), context.n_batch):
        token = _decode(context, prompt[start : start + context.n_batch], start)
    return token


def _decode(context: NativeContext, tokens: list[int], position: int) -> int:
    if not context.decode([Part(0, tokens, position, wants_logits=True)]):
        raise BackendError("the measurement was aborted", hint="Run it again.")
    return int(np.argmax(context.logits_at(-1)))
