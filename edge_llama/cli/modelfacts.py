"""A model's header as plain values, for people and for machines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..gguf_file import GGUFInfo

_TOKENIZER = "tokenizer.ggml."


def facts(info: GGUFInfo) -> dict[str, Any]:
    """Return what a model is, in a few lines; sizes in bytes."""
    from ..filetypes import file_type, missing_bytes

    hparams = info.hparams
    missing = missing_bytes(info)
    return {
        "path": str(info.path),
        "name": info.name,
        "architecture": info.architecture,
        "type": file_type(info),
        "parameters": info.n_parameters,
        "bytes": info.nbytes,
        "bits_per_weight": round(sum(info.bytes_by_type.values()) * 8 / info.n_parameters, 2),
        "parts": len(info.parts),
        "whole": not missing,
        "missing_bytes": missing,
        "layers": info.n_layers,
        "width": hparams.n_embd,
        "heads": max(hparams.n_head),
        "key_value_heads": max(hparams.n_head_kv),
        "experts": hparams.n_expert,
        "experts_used": max(hparams.n_expert_used, default=0),
        "context_length": info.context_length,
        "vocabulary": info.n_vocab,
        "chat_template": info.chat_template is not None,
    }


def tokenizer(info: GGUFInfo) -> dict[str, Any]:
    """Return what the header says of the tokenizer; what it leaves out is the tokenizer's own."""
    from ..header.parser import LongArray

    names = {
        "model": "model",
        "pre": "pre",
        "bos": "bos_token_id",
        "eos": "eos_token_id",
        "eot": "eot_token_id",
        "adds_bos": "add_bos_token",
        "adds_eos": "add_eos_token",
    }
    found = {name: info.metadata.get(_TOKENIZER + key) for name, key in names.items()}
    merges = info.metadata.get(f"{_TOKENIZER}merges", ())
    return {
        **{name: value for name, value in found.items() if value is not None},
        "tokens": info.n_vocab,
        "merges": merges.count if isinstance(merges, LongArray) else len(merges),
    }


def types(info: GGUFInfo) -> dict[str, dict[str, Any]]:
    """Return tensors, bytes, parameters and bits per weight by type, the largest first."""
    found: dict[str, dict[str, Any]] = {}
    for kind, nbytes in info.bytes_by_type.items():
        tensors = [tensor for tensor in info.tensors if tensor.type == kind]
        count = sum(math.prod(tensor.shape) for tensor in tensors)
        found[kind] = {
            "tensors": len(tensors),
            "bytes": nbytes,
            "parameters": count,
            "bits_per_weight": round(nbytes * 8 / count, 3),
        }
    return found


def metadata(info: GGUFInfo) -> dict[str, Any]:
    """Return all keys; of long arrays only the length."""
    from ..header.parser import LongArray

    return {
        key: {"count": value.count} if isinstance(value, LongArray) else value
        for key, value in info.metadata.items()
    }


def tensors(info: GGUFInfo) -> list[dict[str, Any]]:
    """Return every tensor in the order of the file; shapes row-major, as numpy has them."""
    return [
        {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "type": tensor.type,
            "bytes": tensor.nbytes,
            "part": tensor.part,
            "offset": tensor.offset,
        }
        for tensor in info.tensors
    ]
