"""A loaded model: weights and vocabulary. May be used by several threads; freed once."""

from __future__ import annotations

import ctypes
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..cuts import safe_cuts
from ..errors import ModelFileError, StateError
from .buffers import recorded
from .devices import device_list
from .library import check_fork, forget_log, last_log, llama, return_memory, use_numa
from .repack import repack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ..config import ModelConfig
    from ..header.parser import TensorInfo

#: enum llama_vocab_type: SentencePiece and byte-level BPE, which keep every byte of a text.
_LOSSLESS = (1, 2)

#: enum llama_token_attr: unknown, control or user-defined; and what takes white space around it.
_CONTROL, _SPECIAL, _STRIPS = 8, 1 | 8 | 16, 128 | 256


class _Progress:
    """What C calls while it loads; an exception waits here until C has returned."""

    def __init__(self, tell: Callable[[float], object] | None) -> None:
        self._tell = tell
        self.error: BaseException | None = None

    def __call__(self, done: float, _: object) -> bool:
        try:
            if self._tell is not None:
                self._tell(done)
        except BaseException as error:  # noqa: BLE001 - raised again by the caller of C
            self.error = error
        return self.error is None


class NativeModel:
    """``llama_model`` and its vocabulary; with ``vocab_only`` there are no weights to compute with.

    Only for files that the pre-flight has passed: others may end the process. ``on_progress`` gets
    the fraction that is loaded; what it raises ends the load and is raised here.

    ``buffers`` says where the weights went. With ``repack="on"`` those of ``tensors`` are re-laid
    that can be.

    Raises:
        ModelFileError: llama.cpp refuses the file. NativeLibraryError: llama.cpp is not usable.
        StateError: it computed in the process that this one was forked from.
    """

    def __init__(
        self,
        path: Path,
        config: ModelConfig,
        on_progress: Callable[[float], object] | None = None,
        *,
        tensors: Iterable[TensorInfo] = (),
        vocab_only: bool = False,
    ) -> None:
        check_fork()
        lib = self._lib = llama()
        use_numa(config.numa)
        params = lib.llama_model_default_params()
        params.n_gpu_layers = -1 if config.gpu_layers == "auto" else config.gpu_layers
        if config.device != "auto":
            device = config.device if params.n_gpu_layers else "cpu"
            devices = device_list(device)  # held by this frame; read while loading only
            params.devices = ctypes.addressof(devices)
        params.load_mode = _load_mode(lib, config)
        params.use_extra_bufts = False
        self._repacking = repack(params, tensors) if config.repack == "on" else None
        params.vocab_only = vocab_only
        progress = _Progress(on_progress)
        # Held by this frame until the load is over; llama.cpp does not call it later. It is set
        # even if nobody listens: Ctrl-C takes effect when Python runs.
        callback = lib.llama_progress_callback(progress)
        params.progress_callback = callback
        forget_log()
        with recorded() as self.buffers:
            self._handle = lib.llama_model_load_from_file(str(path).encode(), params)
        if progress.error is not None:
            if self._handle:  # it came with the very last call, or too late
                lib.llama_model_free(self._handle)
            raise progress.error
        if not self._handle:
            raise ModelFileError(
                f"{path}: llama.cpp cannot load it: {last_log('no reason given')}",
                hint="Check that it is a LLaMA-like text model and that there is enough memory.",
            )
        self.path = path
        self._vocab = lib.llama_model_get_vocab(self._handle)
        self.n_vocab: int = lib.llama_vocab_n_tokens(self._vocab)
        self.n_ctx_train: int = lib.llama_model_n_ctx_train(self._handle)
        self.adds_bos: bool = lib.llama_vocab_get_add_bos(self._vocab)
        self._pieces: dict[int, bytes] = {}
        self._lock = threading.Lock()

    @property
    def handle(self) -> int:
        """The ``llama_model *``; StateError after close."""
        if not self._handle:
            raise StateError("the model is closed", hint="Open it again with Model.open.")
        return int(self._handle)

    @property
    def vocab(self) -> int:
        """The ``llama_vocab *``; StateError after close."""
        self.handle  # noqa: B018 - raises when closed
        return int(self._vocab)

    def close(self) -> None:
        """Free the weights. Contexts must be gone before; calling it again does nothing."""
        with self._lock:
            handle, self._handle = self._handle, None
        if handle:
            self._lib.llama_model_free(handle)
            return_memory()

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Turn ``text`` into token ids.

        ``add_special`` adds BOS/EOS as the model wants them. ``parse_special`` lets the texts of
        control tokens become those tokens: only for trusted text.
        """
        self.handle  # noqa: B018 - raises when closed
        data = text.encode("utf-8", errors="replace")
        capacity = len(data) + 8
        while True:
            tokens = (ctypes.c_int32 * capacity)()
            count = self._lib.llama_tokenize(
                self._vocab, data, len(data), tokens, capacity, add_special, parse_special
            )
            if count >= 0:
                return tokens[:count]
            capacity = -count

    def piece(self, token: int) -> bytes:
        """Return the bytes a token stands for; none for control tokens.

        They may begin or end in the middle of a character.
        """
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._render(token, special=False)
        return piece

    def text(self, token: int) -> str:
        """Return the text of a token, control tokens included (``<|im_end|>``)."""
        return self.spelling(token).decode("utf-8", errors="replace")

    def spelling(self, token: int) -> bytes:
        """Return the bytes of a token; those of a control token are its text's."""
        return self._render(token, special=True)

    def verbatim(self, tokens: Iterable[int]) -> bytes:
        """Return the bytes of some tokens, control tokens as their texts."""
        return b"".join(map(self.spelling, tokens))

    def _render(self, token: int, *, special: bool) -> bytes:
        self.handle  # noqa: B018 - raises when closed
        if not 0 <= token < self.n_vocab:  # llama.cpp would abort
            raise ValueError(f"token {token} is not in the vocabulary of {self.n_vocab}")
        capacity = 64
        while True:
            buffer = ctypes.create_string_buffer(capacity)
            count = self._lib.llama_token_to_piece(self._vocab, token, buffer, capacity, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            capacity = -count

    @cached_property
    def longest_piece(self) -> int | None:
        """Bytes of text that a token stands for at most; None if the tokenizer may drop some."""
        if self._lib.llama_vocab_type(self.vocab) not in _LOSSLESS:
            return None
        render = self._lib.llama_token_to_piece  # returns -bytes when there is no room
        return max(
            -int(render(self._vocab, token, None, 0, 0, True))  # noqa: FBT003 - C signature
            for token in range(self.n_vocab)
        )

    @cached_property
    def cuts(self) -> tuple[str, ...]:
        """Texts of control tokens after which a text may be cut; see :mod:`edge_llama.cuts`."""
        lib, vocab = self._lib, self.vocab
        if lib.llama_vocab_type(vocab) not in _LOSSLESS or lib.llama_vocab_get_add_eos(vocab):
            return ()
        attributes = [lib.llama_vocab_get_attr(vocab, token) for token in range(self.n_vocab)]
        texts = {
            token: lib.llama_vocab_get_text(vocab, token).decode("utf-8", errors="replace")
            for token, attribute in enumerate(attributes)
            if attribute & _SPECIAL
        }
        if any(attributes[token] & _STRIPS for token in texts):  # the white space behind it too
            return ()
        controls = [text for token, text in texts.items() if attributes[token] & _CONTROL]
        return safe_cuts(controls, texts.values())

    def is_end(self, token: int) -> bool:
        """Whether the token ends a generation (EOS, end of turn and the like)."""
        return bool(self._lib.llama_vocab_is_eog(self.vocab, token))

    def is_control(self, token: int) -> bool:
        """Whether the token is a control token, which stands for no text."""
        return bool(self._lib.llama_vocab_is_control(self.vocab, token))

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """All ids for which :meth:`is_end` is true, EOS first."""
        ends = [token for token in range(self.n_vocab) if self.is_end(token)]
        return tuple(sorted(ends, key=lambda token: token != self.eos))

    def encode(self, data: bytes) -> list[int]:
        """Return the tokens of UTF-8 text: nothing added, and none of them a control token."""
        text = data.decode("utf-8", errors="replace")
        return self.tokenize(text, add_special=False, parse_special=False)

    def special_texts(self) -> dict[int, str]:
        """Return the texts of all control tokens by id."""
        return {token: self.text(token) for token in range(self.n_vocab) if self.is_control(token)}

    @property
    def suppressed_tokens(self) -> list[int]:
        """Ids that the model must never generate (``tokenizer.ggml.suppress_tokens``)."""
        count = ctypes.c_int32()
        tokens = self._lib.llama_vocab_get_suppress_tokens(self.vocab, ctypes.byref(count))
        return [int(token) for token in tokens[: count.value]]

    @property
    def bos(self) -> int | None:
        """Id of the beginning-of-sequence token, if the model has one."""
        return self._optional(self._lib.llama_vocab_bos(self.vocab))

    @property
    def eos(self) -> int | None:
        """Id of the end-of-sequence token, if the model has one."""
        return self._optional(self._lib.llama_vocab_eos(self.vocab))

    def _optional(self, token: int) -> int | None:
        return token if 0 <= token < self.n_vocab else None


def _load_mode(lib: Any, config: ModelConfig) -> int:
    name = {
        (True, False): "MMAP",
        (True, True): "MMAP_MLOCK",
        (False, False): "NONE",
        (False, True): "MLOCK",
    }[config.mmap, config.mlock]
    return int(getattr(lib, f"LLAMA_LOAD_MODE_{name}"))
