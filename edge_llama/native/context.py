"""A context: the KV cache of all sequences and the buffers to compute in; for one thread."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BackendError, OutOfMemoryError, StateError
from ..rope import Rope
from .buffers import recorded
from .library import abort_callback, begin_computing, expected, forget_log, last_log, llama
from .settings import context_params

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ..config import ModelConfig
    from ..decoder import Part, State
    from .model import NativeModel

#: What ``llama_decode`` returns when the abort callback ended it.
_ABORTED = 2


class NativeContext:
    """``llama_context`` whose sequences share one cache; a :class:`~edge_llama.decoder.Decoder`.

    ``n_outputs`` is the number of positions per batch whose logits may be asked for, by default
    one for each sequence; few save the memory of a large buffer (n_outputs * n_vocab * 4 bytes).
    ``buffers`` says what was allocated where. Without ``rope`` positions are the file's.

    Raises:
        OutOfMemoryError: the KV cache or the compute buffers cannot be allocated.
    """

    def __init__(
        self,
        model: NativeModel,
        config: ModelConfig,
        *,
        n_ctx: int,
        n_outputs: int = 1,
        rope: Rope | None = None,
    ) -> None:
        lib = self._lib = llama()
        self._model = model  # keeps the weights alive as long as this context
        self.n_ctx = n_ctx
        # A context smaller than the batch makes llama.cpp clamp n_batch, and a batch larger than
        # that is an abort; so the batch never exceeds either.
        self.n_batch = min(config.n_batch, n_ctx)
        self.n_sequences = min(config.n_parallel, self.n_batch)
        # llama.cpp aborts when there are fewer outputs than sequences.
        self.n_outputs = max(n_outputs, self.n_sequences)
        rope = rope or Rope()
        params = context_params(lib, config, rope, n_ctx)
        params.n_batch = self.n_batch
        params.n_ubatch = min(config.n_ubatch or self.n_batch, self.n_batch)
        params.n_seq_max = self.n_sequences
        params.n_outputs_max = self.n_outputs
        forget_log()
        begin_computing()
        with recorded() as self.buffers:
            self._handle = lib.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise OutOfMemoryError(
                f"no context of {n_ctx} tokens: {last_log('llama.cpp gave no reason')}",
                hint="Use a smaller n_ctx (--ctx), or kv_type q8_0.",
            )
        self._memory = lib.llama_get_memory(self._handle)
        # llama.cpp rotates a key that moves once more, and so scales it once more.
        self.can_shift = rope.magnitude == 1 and bool(lib.llama_memory_can_shift(self._memory))
        self._is_shifted = False
        self._abort = ctypes.create_string_buffer(2)
        self._set_abortable(abortable=True)
        self._n_decoded = 0
        self._make_batch()

    def _make_batch(self) -> None:
        """Make the batch whose arrays are reused by every call."""
        n = self.n_batch
        int32 = ctypes.POINTER(ctypes.c_int32)
        # ctypes rather than numpy arrays: a token at a time, they take a fraction of the time.
        self._token, self._pos = (ctypes.c_int32 * n)(), (ctypes.c_int32 * n)()
        self._sequence, self._wanted = (ctypes.c_int32 * n)(), (ctypes.c_int8 * n)()
        n_seq_id = (ctypes.c_int32 * n)(*[1] * n)
        first = ctypes.addressof(self._sequence)
        seq_id = (int32 * n)(*(ctypes.cast(first + 4 * i, int32) for i in range(n)))
        batch = self._batch = self._lib.llama_batch()
        batch.token = ctypes.cast(self._token, int32)
        batch.pos = ctypes.cast(self._pos, int32)
        batch.n_seq_id = ctypes.cast(n_seq_id, int32)
        batch.seq_id = ctypes.cast(seq_id, ctypes.POINTER(int32))
        batch.logits = ctypes.cast(self._wanted, ctypes.POINTER(ctypes.c_int8))
        self._keep = (n_seq_id, seq_id)  # the batch holds bare addresses

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

    def _is_aborting(self) -> bool:
        return self._abort[0] != b"\x00"

    def _set_abortable(self, *, abortable: bool) -> None:
        callback = abort_callback() if abortable else self._lib.ggml_abort_callback()
        flag = ctypes.addressof(self._abort)
        self._lib.llama_set_abort_callback(self.handle, callback, flag)

    def decode(self, parts: Sequence[Part], *, all_logits: bool = False) -> bool:
        """Compute up to ``n_batch`` tokens; the logits that parts want are kept.

        Returns False if it was aborted; every sequence must then be truncated to where it was.
        ``all_logits`` keeps the logits of every token (at most ``n_outputs``).

        Raises:
            ValueError: more tokens than fit, or ids outside the vocabulary.
            BackendError: llama.cpp failed; the cache is in doubt.
        """
        self._n_decoded = end = 0
        for part in parts:
            start, end = end, end + len(part.tokens)
            self._fill(part, start, end)
        if all_logits:
            self._wanted[:end] = [1] * end
        if (end if all_logits else len(parts)) > self.n_outputs:
            raise ValueError(f"more logits asked for than the {self.n_outputs} that are kept")
        self._batch.n_tokens = end
        if self._is_shifted:
            # llama.cpp moves the keys first, and would leave them half moved.
            self._set_abortable(abortable=False)
        expected.errors = self._is_aborting
        try:
            code = self._lib.llama_decode(self.handle, self._batch)
        finally:
            del expected.errors
        if self._is_shifted:
            self._is_shifted = False
            self._set_abortable(abortable=True)
        if code == 0:
            self._n_decoded = end
        elif code != _ABORTED:
            raise BackendError(
                f"llama.cpp failed to decode ({code}): {last_log('no reason given')}",
                hint="Open the model again with a smaller n_ctx; if it stays, report it.",
            )
        return bool(code == 0)

    def _fill(self, part: Part, start: int, end: int) -> None:
        """Put a part into ``[start, end)`` of the batch, checked: llama.cpp would abort."""
        number, tokens, position, wants_logits = part
        count = end - start
        if not 0 < count <= self.n_batch - start or not 0 <= position <= self.n_ctx - count:
            raise ValueError(f"{count} tokens at {position} do not fit")
        if min(tokens) < 0 or max(tokens) >= self._model.n_vocab:
            raise ValueError("a token is not in the vocabulary")
        self._checked(number)
        if count == 1:  # as short as can be: it happens for every token that is generated
            self._token[start], self._pos[start] = tokens[0], position
            self._sequence[start] = number
        else:
            self._token[start:end] = list(tokens)
            self._pos[start:end] = list(range(position, position + count))
            self._sequence[start:end] = [number] * count
            self._wanted[start:end] = [0] * count
        self._wanted[end - 1] = wants_logits

    def _checked(self, sequence: int) -> int:
        """Return the number of a sequence that exists; llama.cpp would abort on another."""
        if not 0 <= sequence < self.n_sequences:
            raise ValueError(f"there is no sequence {sequence}")
        return sequence

    def truncate(self, sequence: int, position: int) -> bool:
        """Forget everything from ``position`` on; False if all had to go.

        What depends on all tokens before it (a recurrent state), or kept only the newest of them
        (a sliding window), cannot be cut anywhere.
        """
        self._lib.llama_memory_seq_rm(self._memory, self._checked(sequence), position, -1)
        return self._is_whole(sequence, position)

    def _is_whole(self, sequence: int, end: int) -> bool:
        """Whether a sequence has exactly ``[0, end)``; it is emptied if not."""
        if end > 0:
            first = self._lib.llama_memory_seq_pos_min(self._memory, sequence)
            last = self._lib.llama_memory_seq_pos_max(self._memory, sequence)
            if (first, last) == (0, end - 1):
                return True
            self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return end <= 0

    def copy(self, source: int, target: int, end: int) -> bool:
        """Give an empty sequence the cells ``[0, end)`` of another; False if it stays empty."""
        source, target = self._checked(source), self._checked(target)
        self._lib.llama_memory_seq_cp(self._memory, source, target, 0, end)
        return self._is_whole(target, end)

    def shift(self, sequence: int, start: int, end: int) -> None:
        """Forget ``[start, end)`` and move what follows, which no other sequence may share."""
        self._is_shifted = True
        self._lib.llama_memory_seq_rm(self._memory, self._checked(sequence), start, end)
        self._lib.llama_memory_seq_add(self._memory, sequence, end, -1, start - end)

    def state_size(self, sequence: int) -> int:
        """Return the bytes that the sequence's cells take when saved."""
        return int(self._lib.llama_state_seq_get_size(self.handle, self._checked(sequence)))

    def save(self, sequence: int) -> memoryview:
        """Return a copy of the sequence's cells.

        Raises:
            StateError: it was shifted, and nothing decoded since. BackendError: llama.cpp failed.
        """
        if self._is_shifted:
            raise StateError("the cache has just been shifted", hint="Decode a token first.")
        data = np.empty(self.state_size(sequence), dtype=np.uint8)
        pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        if self._lib.llama_state_seq_get_data(self.handle, pointer, data.size, sequence) == 0:
            raise BackendError(
                f"llama.cpp failed to save a sequence: {last_log('no reason given')}",
                hint="Open the model again with a smaller n_ctx; if it stays, report it.",
            )
        return data.data

    def restore(self, sequence: int, state: State) -> bool:
        """Put saved cells into an empty sequence; False if it stays empty.

        The state must be one that this very model and configuration saved: llama.cpp believes it.
        """
        data = np.frombuffer(state, dtype=np.uint8)
        pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        sequence = self._checked(sequence)
        if self._lib.llama_state_seq_set_data(self.handle, pointer, data.size, sequence):
            return True
        self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return False

    def clear(self) -> None:
        """Forget all sequences."""
        self._is_shifted, self._n_decoded = False, 0
        self._lib.llama_memory_clear(self._memory, False)  # noqa: FBT003 - C signature

    def logits(self, count: int = 1) -> npt.NDArray[np.float32]:
        """Return a view ``[count, n_vocab]`` of the last decode's logits; the next overwrites it.

        Raises:
            StateError: the last decode failed, or there was none.
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
