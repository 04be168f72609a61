"""A context: the KV cache and the buffers to compute in. Used by one thread at a time."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BackendError, OutOfMemoryError, StateError
from ..memory.formula import CONTEXT_STEP
from .buffers import recorded
from .library import abort_callback, forget_log, last_log, llama

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ..config import ModelConfig
    from .model import NativeModel

#: ggml's type numbers for the KV cache.
_KV_TYPES = {"auto": 1, "f16": 1, "q4_0": 2, "q8_0": 8}


class NativeContext:
    """``llama_context`` with one sequence.

    ``n_outputs`` is the number of positions per batch whose logits may be asked for; 1 saves the
    memory of a large logits buffer (n_batch * n_vocab * 4 bytes). ``buffers`` says what was
    allocated where.

    Raises:
        OutOfMemoryError: the KV cache or the compute buffers cannot be allocated.
    """

    def __init__(
        self, model: NativeModel, config: ModelConfig, *, n_ctx: int, n_outputs: int = 1
    ) -> None:
        lib = self._lib = llama()
        self._model = model  # keeps the weights alive as long as this context
        self.n_ctx = n_ctx
        # A context smaller than the batch makes llama.cpp clamp n_batch, and a batch larger than
        # that is an abort; so the batch never exceeds either.
        self.n_batch = min(config.n_batch, n_ctx)
        self.n_outputs = min(n_outputs, self.n_batch)
        params = lib.llama_context_default_params()
        params.n_ctx = -(-n_ctx // CONTEXT_STEP) * CONTEXT_STEP
        params.n_batch = self.n_batch
        params.n_ubatch = min(config.n_ubatch or self.n_batch, self.n_batch)
        params.n_seq_max = 1
        params.n_outputs_max = self.n_outputs
        params.n_threads = params.n_threads_batch = config.n_threads
        params.flash_attn_type = _flash_attention(lib, config)
        params.type_k = params.type_v = _KV_TYPES[config.kv_type]
        params.no_perf = True
        forget_log()
        with recorded() as self.buffers:
            self._handle = lib.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise OutOfMemoryError(
                f"no context of {n_ctx} tokens: {last_log('llama.cpp gave no reason')}",
                hint="Use a smaller n_ctx (--ctx), or kv_type q8_0.",
            )
        self._memory = lib.llama_get_memory(self._handle)
        self._abort = ctypes.create_string_buffer(2)
        lib.llama_set_abort_callback(self._handle, abort_callback(), ctypes.addressof(self._abort))
        self._n_decoded = 0
        self._make_batch()

    def _make_batch(self) -> None:
        """Make the batch whose arrays are reused by every call."""
        n = self.n_batch
        int32 = ctypes.POINTER(ctypes.c_int32)
        sequence = np.zeros(1, dtype=np.int32)
        self._token, self._pos = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int32)
        self._wanted = np.zeros(n, dtype=np.int8)
        n_seq_id = np.ones(n, dtype=np.int32)
        seq_id = (int32 * n)(*[sequence.ctypes.data_as(int32)] * n)
        batch = self._batch = self._lib.llama_batch()
        batch.token = self._token.ctypes.data_as(int32)
        batch.pos = self._pos.ctypes.data_as(int32)
        batch.n_seq_id = n_seq_id.ctypes.data_as(int32)
        batch.seq_id = ctypes.cast(seq_id, ctypes.POINTER(int32))
        batch.logits = self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
        self._keep = (sequence, n_seq_id, seq_id)  # the batch holds bare addresses

    @property
    def handle(self) -> int:
        """The ``llama_context *``; StateError after close."""
        if not self._handle:
            raise StateError("the context is closed", hint="Open the model again.")
        return int(self._handle)

    def close(self) -> None:
        """Free the KV cache; calling it again does nothing."""
        handle, self._handle = self._handle, None
        if handle:
            self._lib.llama_free(handle)

    def request_abort(self) -> None:
        """Make the running or next decode stop early; may be called from any thread."""
        self._abort[0] = b"\x01"

    def clear_abort(self) -> None:
        """Take an abort request back."""
        self._abort[0] = b"\x00"

    def decode(self, tokens: Sequence[int], position: int, *, all_logits: bool = False) -> bool:
        """Compute up to ``n_batch`` tokens at ``position``; the logits of the last are kept.

        Returns False if it was aborted; the cache is then as it was before. ``all_logits`` keeps
        the logits of every token (at most ``n_outputs``).

        Raises:
            ValueError: more tokens than fit, or ids outside the vocabulary.
            BackendError: llama.cpp failed.
        """
        count = len(tokens)
        wanted = count if all_logits else 1
        if not 0 < count <= self.n_batch or position + count > self.n_ctx:
            raise ValueError(f"{count} tokens at {position} do not fit")
        if wanted > self.n_outputs:
            raise ValueError(f"logits of {wanted} tokens asked for, {self.n_outputs} kept")
        if min(tokens) < 0 or max(tokens) >= self._model.n_vocab:
            raise ValueError("a token is not in the vocabulary")
        self._token[:count] = tokens
        self._pos[:count] = np.arange(position, position + count)
        self._wanted[:count] = all_logits
        self._wanted[count - 1] = 1
        self._batch.n_tokens = count
        code = self._lib.llama_decode(self.handle, self._batch)
        self._n_decoded = count if code == 0 else 0
        if code == 0:
            return True
        self.truncate(position)
        if code == 2:
            return False
        raise BackendError(
            f"llama.cpp failed to decode ({code}): {last_log('no reason given')}",
            hint="Open the model again with a smaller n_ctx; if it stays, report it.",
        )

    def truncate(self, position: int) -> None:
        """Forget everything from ``position`` on."""
        self._n_decoded = 0
        if position <= 0:
            self._lib.llama_memory_clear(self._memory, False)  # noqa: FBT003 - C signature
        else:
            self._lib.llama_memory_seq_rm(self._memory, 0, position, -1)

    def logits(self, count: int = 1) -> npt.NDArray[np.float32]:
        """Return a view ``[count, n_vocab]`` of the last decode's logits; the next overwrites it.

        Raises:
            StateError: nothing was decoded since the cache changed.
        """
        self.require_logits()
        pointer = self._lib.llama_get_logits(self.handle)
        return np.ctypeslib.as_array(pointer, shape=(count, self._model.n_vocab))

    def logits_at(self, index: int = -1) -> npt.NDArray[np.float32]:
        """Return a view ``[n_vocab]`` of one position's logits; ``index`` as for a sampler.

        Raises:
            StateError: that position has none.
        """
        self.require_logits(index)
        pointer = self._lib.llama_get_logits_ith(self.handle, index)
        return np.ctypeslib.as_array(pointer, shape=(self._model.n_vocab,))

    def require_logits(self, index: int = -1) -> None:
        """Raise StateError unless that position has logits (llama.cpp would abort).

        ``index`` is a position in the last decoded batch, or -1 for its last token.
        """
        position = self._n_decoded - 1 if index == -1 else index
        if not (0 <= position < self._n_decoded and self._wanted[position]):
            raise StateError(
                "there are no logits yet", hint="Decode at least one token before sampling."
            )


def _flash_attention(lib: Any, config: ModelConfig) -> int:
    """Return the C value; a quantised V cache needs it, otherwise llama.cpp knows best."""
    if config.flash_attention == "off":
        return int(lib.LLAMA_FLASH_ATTN_TYPE_DISABLED)
    if config.flash_attention == "on" or config.kv_type in {"q8_0", "q4_0"}:
        return int(lib.LLAMA_FLASH_ATTN_TYPE_ENABLED)
    return int(lib.LLAMA_FLASH_ATTN_TYPE_AUTO)
