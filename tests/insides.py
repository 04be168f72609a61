"""What tests look at behind the API of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_llama.local import Local
from edge_llama.stream import Job
from edge_llama.worker import Worker

if TYPE_CHECKING:
    from edge_llama import Model, Stream
    from edge_llama.native import NativeModel


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
