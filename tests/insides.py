"""What tests look at behind the API of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edge_llama import inspect
from edge_llama.decoder import Part
from edge_llama.local import Local
from edge_llama.native import NativeContext, NativeModel
from edge_llama.stream import Job
from edge_llama.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge_llama import Model, ModelConfig, Stream


def native_of(model: Model) -> NativeModel:
    """The model as llama.cpp has it."""
    assert isinstance(model._opened, Local)
    return model._opened.native


def pid_of(model: Model) -> int:
    """The process that an isolated model runs in."""
    assert isinstance(model._opened, Worker)
    return model._opened.pid


def prompt_of(stream: Stream) -> list[int]:
    """The tokens of the prompt that is answered."""
    assert isinstance(stream._job, Job)
    return stream._job.prompt.tokens


def logits_of(path: Path, config: ModelConfig, *batches: Sequence[int]) -> Any:
    """Return the logits of every position of tokens that are read in batches, as float64."""
    native = NativeModel(path, config, tensors=inspect(path).tensors)
    context = NativeContext(native, config, n_ctx=256, n_outputs=max(map(len, batches)))
    found: list[Any] = []
    for tokens in batches:
        context.decode([Part(0, tokens, len(found), wants_logits=True)], all_logits=True)
        found.extend(context.logits(len(tokens)).astype(np.float64))
    context.close()
    native.close()
    return np.array(found)
