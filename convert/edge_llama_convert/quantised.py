"""Checkpoints that are quantised already, or of another dtype: refused by what they are.

Each tool that quantises leaves its mark in config.json or in a file beside it; without one, the
names of its tensors tell. Dtypes alone would only say that something is wrong.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import UnsupportedError
from .refs import DTYPE_SIZES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .checkpoint import Checkpoint
    from .refs import TensorRef

#: Keys of config.json that settle it; then a key (MLX's) and files that may have been left behind.
_CERTAIN = ("quantization_config", "compression_config")
_KEYS = (*_CERTAIN, "quantization")
_FILES = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
}
_BITS = ("bits", "w_bit", "num_bits", "nbits", "weight_bits")

#: Endings of tensor names that only quantised weights have.
_ENDINGS = {
    ".qweight": "gptq or awq",
    ".weight_packed": "compressed-tensors",
    ".weight_scale_inv": "fp8",
    ".weight_scale": "fp8 or int8",
    ".SCB": "bitsandbytes",
    ".weight.absmax": "bitsandbytes",
}

#: Fine-tuning on a model quantised in memory leaves its entry behind when the merged weights are
#: saved in 16 bits. transformers would quantise them again while loading; they are whole.
_MAY_BE_STALE = "bitsandbytes"

_HINT = (
    "Convert from the unquantised checkpoint, in 16 or 32 bits; the model's page names the one it "
    "was made from."
)


@dataclass(frozen=True)
class _Stated:
    """How a checkpoint says it is quantised, and where it says so."""

    where: str
    detail: str
    certain: bool = False


def check_plain(checkpoint: Checkpoint, tensors: Mapping[str, TensorRef]) -> None:
    """Refuse weights that are quantised or of a dtype that cannot be converted.

    Raises:
        UnsupportedError: one error that says by which tool, or names dtypes and tensors.
    """
    stated = _stated(checkpoint)
    others = [name for name, ref in tensors.items() if ref.dtype not in DTYPE_SIZES]
    marked = [(name, end) for name in tensors for end in _ENDINGS if name.endswith(end)]
    if stated and (others or marked or stated.certain):
        raise UnsupportedError(
            f"{checkpoint.path / stated.where}: the weights are already quantised "
            f"({stated.detail})",
            hint=_HINT,
        )
    if marked:
        name, end = marked[0]
        raise UnsupportedError(
            f"{tensors[name].path}: the weights are already quantised ({_ENDINGS[end]}: tensor "
            f"{name}, dtype {tensors[name].dtype})",
            hint=_HINT,
        )
    if others:
        first = tensors[others[0]]
        count = Counter(tensors[name].dtype for name in others)
        more = f" ({', '.join(f'{dtype}: {n} tensors' for dtype, n in count.most_common())})"
        raise UnsupportedError(
            f"{first.path}: tensor {first.name} has dtype {first.dtype}"
            f"{more if len(others) > 1 else ''}; supported are {', '.join(DTYPE_SIZES)}",
            hint="Save the weights in 16 bits, e.g. model.to(torch.bfloat16)."
            if set(count) == {"F64"}
            else _HINT,
        )


def leftover_of(checkpoint: Checkpoint) -> str | None:
    """Return what is said of a quantisation that :func:`check_plain` did not find, or None."""
    stated = _stated(checkpoint)
    return None if stated is None else f"{stated.where} speaks of {stated.detail}"


def _stated(checkpoint: Checkpoint) -> _Stated | None:
    for key in _KEYS:
        entry = checkpoint.config.get(key)
        if entry:
            entry = _flat(entry if isinstance(entry, dict) else {})
            method = str(entry.get("quant_method") or _unnamed(key, entry))[:40]
            certain = key in _CERTAIN and method != _MAY_BE_STALE
            return _Stated(checkpoint.config_name, f"{key}: {_detail(method, entry)}", certain)
    for name, method in _FILES.items():
        entry = checkpoint.optional_json(name)
        if entry:
            return _Stated(name, _detail(method, _flat(entry)))
    return None


def _unnamed(key: str, entry: Mapping[str, Any]) -> str:
    if any(name.startswith(("load_in_", "bnb_")) for name in entry):
        return _MAY_BE_STALE
    named = {"quantization": "mlx", "compression_config": "compressed-tensors"}
    return named.get(key, "unknown method")


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry with what compressed-tensors and ModelOpt keep some levels deeper."""
    groups = entry.get("config_groups")
    group = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    deeper = (group.get("weights") if isinstance(group, dict) else None, entry.get("quantization"))
    flat = {key: value for part in deeper if isinstance(part, dict) for key, value in part.items()}
    return {**flat, **entry}


def _detail(method: str, entry: Mapping[str, Any]) -> str:
    """Return e.g. ``gptq, 4 bits`` or ``compressed-tensors, pack-quantized, 4 bits``."""
    kinds = [entry.get(key) for key in ("format", "fmt", "quant_algo", "bnb_4bit_quant_type")]
    bits = next((entry[key] for key in _BITS if isinstance(entry.get(key), int)), None)
    if bits is None:
        bits = 8 if entry.get("load_in_8bit") else 4 if entry.get("load_in_4bit") else None
    said = [method, *(kind[:40] for kind in kinds if isinstance(kind, str))]
    return ", ".join([*dict.fromkeys(said), *([f"{bits} bits"] if bits else [])])
