"""Checkpoints as Meta publishes them: ``consolidated.NN.pth`` and ``params.json``.

Names and hyper-parameters: ModelArgs and Transformer in Meta's llama reference code. They are
translated into Hugging Face's, which the rest of the converter speaks. The rows of wq and wk need
no regrouping: ggml rotates neighbouring elements, as Meta's own code does.

Large models come in several files, one per GPU of a model-parallel group; each holds a slice of
every matrix, along the axis below, and a copy of the norms.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .errors import SourceError, TensorError, UnsupportedError
from .metaparams import translate_params
from .refs import TensorRef
from .torchfile import read_torch_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .folder import Folder

PATTERN = "consolidated*.pth"

#: Module: (Hugging Face's name, axis of the slices). None: copies; "shape": Llama 1 and 2 slice
#: the embedding's columns, Llama 3 its rows.
_OUTSIDE: Mapping[str, tuple[str, int | str | None]] = {
    "tok_embeddings": ("model.embed_tokens", "shape"),
    "norm": ("model.norm", None),
    "output": ("lm_head", 0),
}
_IN_LAYER: Mapping[str, tuple[str, int | str | None]] = {
    "attention.wq": ("self_attn.q_proj", 0),
    "attention.wk": ("self_attn.k_proj", 0),
    "attention.wv": ("self_attn.v_proj", 0),
    "attention.wo": ("self_attn.o_proj", 1),
    "feed_forward.w1": ("mlp.gate_proj", 0),
    "feed_forward.w2": ("mlp.down_proj", 1),
    "feed_forward.w3": ("mlp.up_proj", 0),
    "attention_norm": ("input_layernorm", None),
    "ffn_norm": ("post_attention_layernorm", None),
}
_LAYER = re.compile(r"layers\.(\d{1,6})\.(.+)")

#: A buffer that follows from the parameters.
_IGNORED = re.compile(r"(.+\.)?rope\.freqs")


def read_meta(
    folder: Folder, params: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, TensorRef], tuple[Path, ...]]:
    """Return config.json's content, tensors by Hugging Face name, and the weight files.

    ``params`` is the content of params.json.

    Raises:
        SourceError: files are missing or damaged. TensorError: they do not fit each other.
        ParamsError: params.json is incomplete. UnsupportedError: another model or tokenizer.
    """
    path = folder.path
    files = _files(folder)
    slices = [read_torch_file(file, folder.open) for file in files]
    dim = params.get("dim")
    tensors: dict[str, TensorRef] = {}
    for name in dict.fromkeys(name for found in slices for name in found):
        if _IGNORED.fullmatch(name):
            continue
        lacking = [
            file.name for file, found in zip(files, slices, strict=True) if name not in found
        ]
        if lacking:
            raise TensorError(
                f"{path}: tensor {name} is missing in {', '.join(lacking[:4])}",
                hint="The files are not slices of one model; download them again together.",
            )
        renamed, axis = _translate(name)
        tensors[renamed] = _join(name, [found[name] for found in slices], axis, dim)
    vocabulary = tensors.get("model.embed_tokens.weight")
    output = tensors.get("lm_head.weight")
    tied = output is None or (vocabulary is not None and _same_place(output, vocabulary))
    if tied:
        tensors.pop("lm_head.weight", None)
    config = translate_params(
        path / "params.json", params, vocabulary.shape[0] if vocabulary else None
    )
    _check_tokenizer(path)
    return {**config, "tie_word_embeddings": tied}, tensors, files


def _files(folder: Folder) -> tuple[Path, ...]:
    files = folder.find(PATTERN)
    expected = [f"consolidated.{i:02}.pth" for i in range(len(files))]
    if [file.name for file in files] != expected:
        raise SourceError(
            f"{folder.path}: found {', '.join(file.name for file in files[:8])}; expected "
            f"{', '.join(expected[:8])}",
            hint="The slices are numbered from 00; download the missing ones.",
        )
    return files


def _translate(name: str) -> tuple[str, int | str | None]:
    """Return the Hugging Face name and the axis of the slices; unknown names stay."""
    module, _, kind = name.rpartition(".")
    layer = _LAYER.fullmatch(module)
    table, prefix = (_IN_LAYER, f"model.layers.{layer[1]}.") if layer else (_OUTSIDE, "")
    renamed, axis = table.get(layer[2] if layer else module, (None, 0))
    return (f"{prefix}{renamed}.{kind}", axis) if renamed else (name, axis)


def _join(name: str, parts: list[TensorRef], axis: int | str | None, dim: Any) -> TensorRef:
    first = parts[0]
    if len(parts) == 1 or axis is None:
        return first
    if axis == "shape":
        axis = 0 if first.shape[-1] == dim else 1
    assert isinstance(axis, int)  # noqa: S101 - None and "shape" were dealt with
    others = [shape[:axis] + shape[axis + 1 :] for shape in (part.shape for part in parts)]
    same = all(part.dtype == first.dtype and len(part.shape) == 2 for part in parts)
    if not same or any(other != others[0] for other in others) or not all(first.shape):
        raise TensorError(
            f"{first.path.parent}: the slices of tensor {name} do not fit each other",
            hint="The files are not slices of one model; download them again together.",
        )
    shape = list(first.shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    return TensorRef(name, first.dtype, tuple(shape), first.path, first.offset, tuple(parts), axis)


def _same_place(left: TensorRef, right: TensorRef) -> bool:
    return [(ref.path, ref.offset, ref.shape) for ref in left.pieces] == [
        (ref.path, ref.offset, ref.shape) for ref in right.pieces
    ]


def _check_tokenizer(path: Path) -> None:
    """Refuse a folder whose only tokenizer is a list of base64 tokens, as Llama 3's is."""
    model = path / "tokenizer.model"
    if (path / "tokenizer.json").is_file():
        return
    try:
        with model.open("rb") as file:
            if not re.match(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n", file.read(512)):
                return  # SentencePiece, judged where tokenizers are read
            problem = "tokenizer.model is a list of tokens (tiktoken) without their merges"
    except OSError:
        problem = "no tokenizer"
    raise UnsupportedError(
        f"{path}: {problem}",
        hint="Add tokenizer.json (and tokenizer_config.json) of the same model's Hugging Face "
        "repository to the folder.",
    )
