"""From a GGUF to a GGUF of another type: what llama-quantize does, with the same result."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import gguf

from .choose import choose_types
from .errors import ParamsError, SourceError, TensorError, UnsupportedError
from .ggml import GGMLType, load_ggml
from .ggufsource import GGUFHeader, read_gguf_header
from .header import PackedKeys, pack_number
from .params import read_params
from .refs import DTYPE_SIZES
from .tensors import GGUFTensor
from .writer import Layout, place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .ggufsource import KeyValue
    from .overrides import TypeOverrides
    from .params import LlamaParams
    from .recipe import Recipe

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")
_TYPE_SUFFIX = re.compile(
    r"[-._](?:b?f(?:p)?(?:16|32)|i?q\d(?:_[0-9a-z]{1,3})*|tq\d_0|mxfp4)$", re.IGNORECASE
)

#: Keys that describe the file rather than the model: dropped, or set anew at the end.
_OF_THE_FILE = {
    *("split.no", "split.count", "split.tensors.count"),
    *("general.quantization_version", "general.file_type"),
}

_LAYER = (
    *("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output"),
    *("ffn_norm", "ffn_gate", "ffn_up", "ffn_down"),
)


def is_gguf(source: Path) -> bool:
    """Whether ``source`` is to be read as a GGUF: by its suffix, or by its first bytes."""
    if not source.is_file():
        return False
    if source.suffix.lower() == ".gguf":
        return True
    try:
        with source.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False


def model_name_of(source: Path) -> str:
    """Return the file's stem without the number of a shard and the type it was saved in."""
    stem = _SHARD.sub("", source.name.removesuffix(".gguf"))
    return _TYPE_SUFFIX.sub("", stem) or stem


def plan_gguf(
    source: Path, recipe: Recipe, overrides: TypeOverrides | None = None, *, requantize: bool
) -> tuple[LlamaParams, Layout]:
    """Read the header of a GGUF, or of all of its shards, and lay out its conversion.

    Metadata is carried over as it is, but for the keys of :data:`_OF_THE_FILE`. Tensors that
    llama-quantize would not touch, or that have the target type already, are copied.

    Raises:
        UnsupportedError: a quantised source without ``requantize``; another architecture.
        SourceError, ParamsError, TensorError: damaged, contradictory or incomplete.
    """
    header = _merge_shards(source, read_gguf_header(source))
    params = _params(source, header)
    _check_complete(source, header, params)
    tensors = sorted(
        (GGUFTensor(name, ref.shape, (ref,)) for name, ref in header.tensors.items()),
        key=lambda tensor: (tensor.layer, tensor.name),
    )
    chosen = choose_types(tensors, recipe, params, overrides)
    kinds = [_untouched(each) or kind for each, kind in zip(tensors, chosen, strict=True)]
    _check_types(source, tensors, kinds, requantize=requantize)
    return params, place(_keys(header.metadata, recipe), tensors, kinds)


def _merge_shards(source: Path, header: GGUFHeader) -> GGUFHeader:
    """Return the header with the tensors of all shards, if ``source`` is the first of several."""
    entry = header.metadata.get("split.count")
    count = entry.value if entry else 1
    if not isinstance(count, int) or count <= 1:
        return header
    match = _SHARD.search(source.stem)
    if match is None or int(match[2]) != count or count > 99_999:
        raise SourceError(
            f"{source}: one of {count} shards, but not named NAME-00001-of-{count:05}.gguf",
            hint="Give the shards the names they were published under.",
        )
    names = [
        f"{source.stem[: match.start()]}-{i + 1:05}-of-{count:05}{source.suffix}"
        for i in range(count)
    ]
    if source.name != names[0]:
        raise SourceError(f"{source}: not the first shard", hint=f"Give {names[0]} instead.")
    missing = [name for name in names if not source.with_name(name).is_file()]
    if missing:
        raise SourceError(
            f"{source}: {len(missing)} of {count} shards missing: {', '.join(missing[:8])}",
            hint="Download the missing files into the folder and run the command again.",
        )
    tensors = dict(header.tensors)
    for name in names[1:]:
        more = read_gguf_header(source.with_name(name)).tensors
        twice = sorted(tensors.keys() & more.keys())
        if twice:
            raise SourceError(
                f"{source.with_name(name)}: tensor {twice[0]} is in another shard too",
                hint="Shards of different downloads? Keep the files of one model.",
            )
        tensors.update(more)
    return GGUFHeader(header.metadata, tensors)


def _params(source: Path, header: GGUFHeader) -> LlamaParams:
    """Return what the recipes need to know of the model, by way of config.json's names."""
    values = {key: entry.value for key, entry in header.metadata.items()}
    architecture = values.get("general.architecture")
    if architecture != "llama" or values.get("llama.expert_count"):
        kind = "mixture of experts" if architecture == "llama" else repr(architecture)
        raise UnsupportedError(
            f"{source}: architecture {kind}; supported is 'llama'",
            hint="Use llama.cpp's llama-quantize for this model.",
        )
    keys = {
        "num_hidden_layers": "llama.block_count",
        "hidden_size": "llama.embedding_length",
        "intermediate_size": "llama.feed_forward_length",
        "num_attention_heads": "llama.attention.head_count",
        "num_key_value_heads": "llama.attention.head_count_kv",
        "max_position_embeddings": "llama.context_length",
        "rms_norm_eps": "llama.attention.layer_norm_rms_epsilon",
        "rope_theta": "llama.rope.freq_base",
        "head_dim": "llama.attention.key_length",
    }
    config = {name: values[key] for name, key in keys.items() if values.get(key) is not None}
    missing = [key for name, key in list(keys.items())[:4] if name not in config]
    embedding = header.tensors.get("token_embd.weight")
    if missing or embedding is None:
        raise ParamsError(
            f"{source}: {', '.join(missing or ['token_embd.weight'])} is missing or differs by "
            "layer",
            hint="Not a complete LLaMA model; get another copy of the file.",
        )
    config |= {"architectures": ["LlamaForCausalLM"], "vocab_size": embedding.shape[0]}
    return read_params(config, source)


def _check_complete(source: Path, header: GGUFHeader, params: LlamaParams) -> None:
    # Believed only after this comparison: a hostile header may claim billions of layers.
    found = sum(name.startswith("blk.") for name in header.tensors)
    if params.n_layers * len(_LAYER) > found:
        raise TensorError(
            f"{source}: {found} tensors in layers, {params.n_layers} layers have "
            f"{params.n_layers * len(_LAYER)} at least",
            hint="The file is not complete; fetch or convert it again.",
        )
    wanted = {f"blk.{i}.{kind}.weight" for i in range(params.n_layers) for kind in _LAYER}
    missing = sorted((wanted | {"output_norm.weight"}) - header.tensors.keys())
    if missing:
        raise TensorError(
            f"{source}: {len(missing)} tensors missing: {', '.join(missing[:12])}",
            hint="The file is not complete, or its LLaMA is of an unknown variant.",
        )


def _untouched(tensor: GGUFTensor) -> GGMLType | None:
    """Return the tensor's own type where llama-quantize leaves it alone, else None."""
    (ref,) = tensor.sources
    is_matrix = len(tensor.shape) > 1 and tensor.name.endswith("weight")
    if is_matrix and "_norm.weight" not in tensor.name:
        return None
    if ref.dtype not in GGMLType.__members__:
        raise UnsupportedError(
            f"{ref.path}: tensor {tensor.name} has type {ref.dtype}",
            hint="A vector of this type is not known to any LLaMA; get another copy.",
        )
    return GGMLType[ref.dtype]


def _check_types(
    source: Path, tensors: Sequence[GGUFTensor], kinds: Sequence[GGMLType], *, requantize: bool
) -> None:
    quantised = []
    for tensor, kind in zip(tensors, kinds, strict=True):
        dtype = tensor.sources[0].dtype
        if dtype != kind.name and dtype not in DTYPE_SIZES:
            if not load_ggml().can_decode(dtype):
                raise UnsupportedError(
                    f"{source}: tensor {tensor.name} has type {dtype}",
                    hint="Only float and quantised weights can be converted.",
                )
            quantised.append(f"{tensor.name} is {dtype}")
    if quantised and not requantize:
        raise UnsupportedError(
            f"{source}: already quantised ({quantised[0]})",
            hint="Convert from the 16- or 32-bit original if you can; to lose precision twice "
            "all the same, add --requantize.",
        )


def _keys(metadata: Mapping[str, KeyValue], recipe: Recipe) -> PackedKeys:
    """Return the source's metadata, with the keys that describe the file set anew."""
    kept = [
        entry.raw
        for key, entry in metadata.items()
        # An alignment other than the default would not be that of the result.
        if key not in _OF_THE_FILE and (key, entry.value == 32) != ("general.alignment", False)
    ]
    kept += [
        pack_number("general.quantization_version", gguf.GGML_QUANT_VERSION),
        pack_number("general.file_type", recipe.file_type),
    ]
    return PackedKeys(len(kept), b"".join(kept))
