"""edge-llama: talk to a LLaMA model on a small machine.

    from edge_llama import Model, Sampling, inspect

    with Model.open("models/llama-3.2-1b-q4_k_m.gguf") as model:
        chat = model.chat(system="Be brief.")
        for text in chat.stream("Name three moons of Saturn."):
            print(text, end="", flush=True)

Importing this loads neither numpy nor the native library; names are imported when first used.
Every error is an :class:`EdgeLlamaError` with a ``hint``; see :mod:`edge_llama.errors`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .asyncstream import AsyncStream
    from .catalog import find_model
    from .chat import Chat
    from .config import ModelConfig
    from .errors import (
        BackendError,
        ContextOverflowError,
        DeviceError,
        EdgeLlamaError,
        GrammarError,
        HistoryError,
        IncompleteError,
        InvalidOptionError,
        InvalidOutputError,
        LoadCancelledError,
        ModelFileError,
        ModelNotFoundError,
        NativeLibraryError,
        OutOfMemoryError,
        StateError,
        TemplateError,
        WorkerDied,
    )
    from .generate import Reply
    from .gguf_file import GGUFInfo, inspect
    from .grammar import Grammar
    from .logprobs import TokenLogprob
    from .memory import MemoryPlan, MemoryReceipt
    from .messages import Message
    from .model import Model
    from .sampling import Sampling
    from .stream import Stream

__version__ = "0.1.0"

_ORIGINS = {
    "AsyncStream": "asyncstream",
    "BackendError": "errors",
    "Chat": "chat",
    "ContextOverflowError": "errors",
    "DeviceError": "errors",
    "EdgeLlamaError": "errors",
    "GGUFInfo": "gguf_file",
    "Grammar": "grammar",
    "GrammarError": "errors",
    "HistoryError": "errors",
    "IncompleteError": "errors",
    "InvalidOptionError": "errors",
    "InvalidOutputError": "errors",
    "LoadCancelledError": "errors",
    "MemoryPlan": "memory",
    "MemoryReceipt": "memory",
    "Message": "messages",
    "Model": "model",
    "ModelConfig": "config",
    "ModelFileError": "errors",
    "ModelNotFoundError": "errors",
    "NativeLibraryError": "errors",
    "OutOfMemoryError": "errors",
    "Reply": "generate",
    "Sampling": "sampling",
    "StateError": "errors",
    "Stream": "stream",
    "TemplateError": "errors",
    "TokenLogprob": "logprobs",
    "WorkerDied": "errors",
    "find_model": "catalog",
    "inspect": "gguf_file",
}

__all__ = [
    "AsyncStream",
    "BackendError",
    "Chat",
    "ContextOverflowError",
    "DeviceError",
    "EdgeLlamaError",
    "GGUFInfo",
    "Grammar",
    "GrammarError",
    "HistoryError",
    "IncompleteError",
    "InvalidOptionError",
    "InvalidOutputError",
    "LoadCancelledError",
    "MemoryPlan",
    "MemoryReceipt",
    "Message",
    "Model",
    "ModelConfig",
    "ModelFileError",
    "ModelNotFoundError",
    "NativeLibraryError",
    "OutOfMemoryError",
    "Reply",
    "Sampling",
    "StateError",
    "Stream",
    "TemplateError",
    "TokenLogprob",
    "WorkerDied",
    "__version__",
    "find_model",
    "inspect",
]


def __getattr__(name: str) -> Any:
    if name not in _ORIGINS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_ORIGINS[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
