"""A model that reads a given text and says what it expected at each position."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from ..closing import Closing
from ..decoder import Part
from ..gguf_file import inspect
from ..loading import load
from ..memory import Demand, plan_memory
from ..native import NativeContext, read_hardware
from ..rope import choose_rope

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ..config import ModelConfig
    from .aside import Aside
    from .scores import Logits

#: Bytes of logits that are kept at a time; a vocabulary of 128k tokens takes 0.5 MB per position.
_LOGITS_BYTES = 16 * 2**20


class Teacher(Closing):
    """A model open for reading chunks of ``config.n_ctx`` tokens; use as a context manager.

    What ``config`` leaves open is chosen for the memory that is free, except what changes the
    results: unless something else is asked for the KV cache is f16 and weights stay as they are
    in the file (the code for re-laid ones rounds otherwise). ``aside`` computes.

    Raises:
        ModelFileError, OutOfMemoryError, DeviceError, NativeLibraryError: as ``Model.open``.
    """

    def __init__(self, path: Path, config: ModelConfig, aside: Aside) -> None:
        info = inspect(path)
        n_ctx = config.n_ctx or info.context_length
        kept = max(1, _LOGITS_BYTES // (4 * info.n_vocab))
        self.path, self.n_ctx, self._aside = path, n_ctx, aside
        self.n_outputs = min(kept, config.n_batch, n_ctx)
        config = dataclasses.replace(
            config,
            n_ctx=n_ctx,
            n_parallel=1,
            kv_type="f16" if config.kv_type == "auto" else config.kv_type,
            repack="off" if config.repack == "auto" else config.repack,
        )
        demand = Demand(n_outputs=self.n_outputs, reads_only=True)
        plan = plan_memory(info, config, read_hardware(), demand)
        self.notes = plan.notes
        chosen = plan.apply(config)
        self.native = load(info, chosen)
        try:
            rope = choose_rope(info, config, n_ctx)
            self._context = NativeContext(
                self.native, chosen, n_ctx=n_ctx, n_outputs=self.n_outputs, rope=rope
            )
        except BaseException:
            self.native.close()
            raise

    def close(self) -> None:
        """Free the context, then the weights it uses."""
        self._context.close()
        self.native.close()

    def tokenize(self, text: str) -> npt.NDArray[np.int64]:
        """Return the ids of a plain text's tokens, with BOS and EOS as the model wants them."""
        tokens = self.native.tokenize(text, add_special=True, parse_special=False)
        return np.array(tokens, dtype=np.int64)

    def read(self, chunk: npt.NDArray[np.int64]) -> Iterator[tuple[int, Logits]]:
        """Read ``n_ctx`` tokens and yield (position, logits) for the second half of them.

        The logits are float32 ``[positions, n_vocab]`` from that position on, at most
        ``n_outputs`` of them; they are overwritten when the iteration goes on. The last token
        is not read: what comes after it is not known. BOS takes the place of the first token
        where the model wants one.
        """
        tokens: list[int] = chunk.tolist()
        bos = self.native.bos
        if self.native.adds_bos and bos is not None:
            tokens[0] = bos
        self._context.clear()
        half, last = len(tokens) // 2, len(tokens) - 1
        for start in range(0, half, self._context.n_batch):
            self._decode(tokens[start : min(start + self._context.n_batch, half)], start)
        for start in range(half, last, self.n_outputs):
            part = tokens[start : min(start + self.n_outputs, last)]
            self._decode(part, start, all_logits=True)
            yield start, self._context.logits(len(part))

    def _decode(self, tokens: Sequence[int], position: int, *, all_logits: bool = False) -> None:
        part = Part(0, tokens, position, wants_logits=False)
        context = self._context
        self._aside.run(lambda: context.decode([part], all_logits=all_logits), context)
