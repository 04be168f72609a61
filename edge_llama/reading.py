"""llama.cpp's plain reading of a model file: its tokens and its logits, nothing in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .closing import Closing
from .config import ModelConfig
from .decoder import Part
from .gguf_file import inspect
from .native import NativeContext, NativeModel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt


class Reading(Closing):
    """A model file as llama.cpp understands it; use as a context manager.

    The vocabulary is loaded alone until logits are asked for, so that a tokenizer can be checked
    without touching the weights.
    """

    def __init__(self, path: Path) -> None:
        inspect(path)  # the pre-flight, before native code sees the file
        self._path = path
        self._config = ModelConfig()
        self._vocabulary = NativeModel(path, self._config, vocab_only=True)

    def close(self) -> None:
        """Free the vocabulary."""
        self._vocabulary.close()

    def tokenize(self, text: str) -> list[int]:
        """Return token ids, control tokens recognised, nothing added around the text."""
        return self._vocabulary.tokenize(text, add_special=False, parse_special=True)

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes that the tokens stand for, control tokens as their texts."""
        return self._vocabulary.verbatim(tokens)

    def logits(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the logits of every position, float32 ``[len(tokens), n_vocab]``."""
        model = NativeModel(self._path, self._config)
        try:
            count = len(tokens)
            context = NativeContext(model, self._config, n_ctx=count, n_outputs=count)
            try:
                context.decode([Part(0, tokens, 0, wants_logits=True)], all_logits=True)
                logits: npt.NDArray[np.float32] = context.logits(count).copy()
                return logits
            finally:
                context.close()
        finally:
            model.close()
