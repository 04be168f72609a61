"""The hyper-parameters of a GGUF that is a source, and whether all of its tensors are there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .errors import ParamsError, TensorError, UnsupportedError
from .ggufsource import squeezed
from .params import read_params
from .rotation import magnitude
from .shapecheck import shape_faults
from .tensors import gguf_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .ggufsource import GGUFHeader
    from .params import LlamaParams

#: config.json's names -> GGUF's keys. llama.cpp does not load a model without those of the first
#: table; the numbers of the last one are no integers.
_REQUIRED = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
_OF_EXPERTS = {
    "num_local_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
}
_OPTIONAL = {
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rope_theta": "rope.freq_base",
}
_FLOATS = {"rms_norm_eps", "rope_theta"}
_OPTIONAL_TENSORS = {"output.weight", "rope_freqs.weight"}


def read_gguf_params(source: Path, header: GGUFHeader) -> LlamaParams:
    """Return the parameters of the LLaMA whose header this is, by way of config.json's names.

    Raises:
        UnsupportedError: another architecture. ParamsError: keys are missing or contradictory.
        TensorError: tensors are missing.
    """
    architecture = _value(header, "general.architecture")
    if architecture != "llama":
        raise UnsupportedError(
            f"{source}: architecture {architecture!r}; supported is 'llama'",
            hint="Use llama.cpp's llama-quantize for this model.",
        )
    has_experts = bool(_value(header, "llama.expert_count"))
    required = {**_REQUIRED, **(_OF_EXPERTS if has_experts else {})}
    keys = {**required, **_OPTIONAL}
    config = _read(header, keys)
    wrong = [
        f"llama.{keys[name]} = {value!r}"
        for name, value in config.items()
        if not isinstance(value, float if name in _FLOATS else int)
    ]
    if wrong:
        raise ParamsError(
            f"{source}: {', '.join(wrong)}: not of the key's type",
            hint="The file was edited or damaged; get another copy of the file.",
        )
    unusable = [f"llama.{key}" for name, key in required.items() if name not in config]
    unusable += [  # an array, one number per layer
        f"llama.{key}"
        for name, key in _OPTIONAL.items()
        if f"llama.{key}" in header.metadata and name not in config
    ]
    embedding = header.tensors.get("token_embd.weight")
    if unusable or embedding is None:
        raise ParamsError(
            f"{source}: {', '.join(unusable or ['token_embd.weight'])} is missing or differs by "
            "layer",
            hint="Not a complete LLaMA model; get another copy of the file.",
        )
    config.setdefault("num_key_value_heads", config["num_attention_heads"])
    config["architectures"] = ["MixtralForCausalLM" if has_experts else "LlamaForCausalLM"]
    config["vocab_size"] = embedding.shape[0]
    config["rope_scaling"] = _rope(source, header, config.get("max_position_embeddings"))
    params = read_params(config, source)
    _check_heads(source, header, params)
    _check_complete(source, header, params)
    return params


def _value(header: GGUFHeader, key: str) -> Any:
    entry = header.metadata.get(key)
    return None if entry is None else entry.value


def _read(header: GGUFHeader, keys: Mapping[str, str]) -> dict[str, Any]:
    found = {name: _value(header, f"llama.{key}") for name, key in keys.items()}
    return {name: value for name, value in found.items() if value is not None}


def _rope(source: Path, header: GGUFHeader, context_length: Any) -> dict[str, Any]:
    """Return the scaling of positions in transformers' terms, as llama.cpp reads the keys.

    See load_hparams in llama-model.cpp and llama_context's constructor; of the yarn_* keys
    neither looks at one for a LLaMA.
    """

    def number(key: str, default: Any) -> Any:
        value = _value(header, f"llama.rope.{key}")
        if value is not None and (type(value) not in {int, float} or not 0 <= value < math.inf):
            raise ParamsError(
                f"{source}: llama.rope.{key} = {value!r}, not a number from 0",
                hint="The file was damaged or edited; fetch or convert it again.",
            )
        return value or default  # llama.cpp takes 0 for absent

    kind = _value(header, "llama.rope.scaling.type") or "linear"
    factor = number("scaling.factor", number("scale_linear", 1.0))
    relative = number("scaling.attn_factor", 1.0)
    if kind == "yarn":
        return {
            "rope_type": kind,
            "factor": factor,
            "original_max_position_embeddings": number(
                "scaling.original_context_length", context_length
            ),
            "attention_factor": magnitude(factor) * relative,
        }
    if relative != 1.0:
        return {"rope_type": f"{kind} with attn_factor {relative}"}
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return {"rope_type": "default"}
    return {"rope_type": kind, "factor": factor}


def _check_heads(source: Path, header: GGUFHeader, params: LlamaParams) -> None:
    """Refuse what llama.cpp's LLaMA graph would end the process for."""
    for key in ("attention.value_length", "rope.dimension_count"):
        value = _value(header, f"llama.{key}")
        if value not in {None, params.head_dim}:
            raise ParamsError(
                f"{source}: llama.{key} = {value}, but a head has {params.head_dim} elements",
                hint="llama.cpp's LLaMA cannot run such a model; get another copy of the file.",
            )


def _check_complete(source: Path, header: GGUFHeader, params: LlamaParams) -> None:
    if params.n_experts and "blk.0.ffn_gate.0.weight" in header.tensors:
        raise UnsupportedError(
            f"{source}: every expert has tensors of its own (blk.0.ffn_gate.0.weight), as in files "
            "made before April 2024; llama.cpp no longer reads them",
            hint="Get a newer GGUF of the model, or convert its checkpoint.",
        )
    expected = {name: squeezed(shape) for name, shape in gguf_shapes(params).items()}
    faults = shape_faults(
        expected,
        {name: ref.shape for name, ref in header.tensors.items()},
        "its metadata",
        optional=[name for name in expected if name in _OPTIONAL_TENSORS or name.endswith(".bias")],
    )
    if faults:
        raise TensorError(
            f"{source}: {'; '.join(faults)}",
            hint="The file is damaged or incomplete, or its LLaMA is of an unknown variant.",
        )
