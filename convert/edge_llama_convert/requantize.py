"""From a GGUF to a GGUF of another type: what llama-quantize does, with the same result."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import gguf

from .choose import choose_types
from .errors import SourceError, UnsupportedError
from .ggml import GGMLType, load_ggml
from .ggufparams import read_gguf_params
from .ggufsource import GGUFHeader, read_gguf_header
from .header import PackedKeys, pack_number
from .imatrix import imatrix_keys, with_importance
from .refs import DTYPE_SIZES
from .report import REPORT_KEY
from .split import PART, part_paths
from .tensors import GGUFTensor
from .writer import Layout, place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .ggufsource import KeyValue
    from .imatrixfile import ImatrixFile
    from .overrides import TypeOverrides
    from .params import LlamaParams
    from .recipe import Recipe

_TYPE_SUFFIX = re.compile(
    r"[-._](?:b?f(?:p)?(?:16|32)|i?q\d(?:_[0-9a-z]{1,3})*|tq\d_0|mxfp4)$", re.IGNORECASE
)

#: Keys that describe the file rather than the model.
_OF_THE_FILE = {"split.no", "split.count", "split.tensors.count", REPORT_KEY}

#: Matrices of these names keep their type (tensor_allows_quantization in llama-quant.cpp).
_KEPT = ("_norm.weight", "ffn_gate_inp.weight")


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
    stem = PART.sub("", source.name.removesuffix(".gguf"))
    return _TYPE_SUFFIX.sub("", stem) or stem


def plan_gguf(
    source: Path,
    recipe: Recipe,
    overrides: TypeOverrides | None = None,
    imatrix: ImatrixFile | None = None,
    *,
    requantize: bool,
) -> tuple[LlamaParams, Layout]:
    """Read the header of a GGUF, or of all of its shards, and lay out its conversion.

    Metadata is carried over as it is, but for the keys of :data:`_OF_THE_FILE`. Tensors that
    llama-quantize would not touch, or that have the target type already, are copied.

    Raises:
        UnsupportedError: a quantised source without ``requantize``; another architecture.
        SourceError, ParamsError, TensorError: damaged, contradictory or incomplete.
    """
    header = read_whole_header(source)
    params = read_gguf_params(source, header)
    tensors = with_importance(tensors_of(header), imatrix)
    chosen = choose_types(tensors, recipe, params, overrides)
    kinds = [_untouched(each) or kind for each, kind in zip(tensors, chosen, strict=True)]
    _check_types(source, tensors, kinds, requantize=requantize)
    return params, place(_keys(header.metadata, recipe, imatrix), tensors, kinds)


def read_whole_header(source: Path) -> GGUFHeader:
    """Return the header with the tensors of all shards, if ``source`` is the first of several.

    Raises:
        SourceError: a file is missing, damaged, or not the first of its shards.
    """
    header = read_gguf_header(source)
    entry = header.metadata.get("split.count")
    count = entry.value if entry else 1
    if not isinstance(count, int) or count <= 1:
        return header
    match = PART.search(source.stem)
    if match is None or int(match[2]) != count or count > 99_999:
        raise SourceError(
            f"{source}: one of {count} shards, but not named NAME-00001-of-{count:05}.gguf",
            hint="Give the shards the names they were published under.",
        )
    names = [path.name for path in part_paths(source, count)]
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


def tensors_of(header: GGUFHeader) -> list[GGUFTensor]:
    """Return a header's tensors in the order in which llama.cpp writes them."""
    return sorted(
        (GGUFTensor(name, ref.shape, (ref,)) for name, ref in header.tensors.items()),
        key=lambda tensor: (tensor.layer, tensor.name),
    )


def _untouched(tensor: GGUFTensor) -> GGMLType | None:
    """Return the tensor's own type where llama-quantize leaves it alone, else None."""
    (ref,) = tensor.sources
    is_matrix = len(tensor.shape) > 1 and tensor.name.endswith("weight")
    if is_matrix and not any(part in tensor.name for part in _KEPT):
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


def _keys(
    metadata: Mapping[str, KeyValue], recipe: Recipe, imatrix: ImatrixFile | None
) -> PackedKeys:
    """Return the source's metadata, with the keys that describe the file set anew."""
    numbers = {
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        "general.file_type": recipe.file_type,
    }
    new = {key: pack_number(key, value) for key, value in numbers.items()} | imatrix_keys(imatrix)
    kept = [
        entry.raw
        for key, entry in metadata.items()
        # An alignment other than the default would not be that of the result.
        if key not in _OF_THE_FILE
        and key not in new
        and (key, entry.value == 32) != ("general.alignment", False)
    ]
    return PackedKeys(0, b"").plus([*kept, *new.values()])
