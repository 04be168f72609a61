"""What the memory of a model depends on, from its header."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..header.parser import LongArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..gguf_file import GGUFInfo
    from ..header.parser import TensorInfo

_LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights of one place: before, in, or after the layers.

    Attributes:
        nbytes: their size.
        by_type: the size of matrices that a layer (or the output) multiplies with, which are what
            llama.cpp re-lays for the CPU ("repacking").
        start: where the first of them begins in the file.
        end: where the last of them ends; 0 if the model is in several files.
    """

    nbytes: int = 0
    by_type: Mapping[str, int]
    start: int = 0
    end: int = 0

    def repacked(self, types: frozenset[str]) -> int:
        """Return the bytes that are re-laid if ``types`` are."""
        return sum(size for kind, size in self.by_type.items() if kind in types)


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Widths in elements, weights in bytes.

    Attributes:
        n_embd: width of the hidden state.
        n_ff: elements that a token's feed-forward network has at once: its width, times the
            experts that are used.
        q_width: width of all query heads together.
        n_head: query heads.
        kv_widths: width of a key and a value together, per layer.
        n_vocab: tokens in the vocabulary.
        n_merges: pairs in a byte-level BPE vocabulary, 0 in others.
        n_ctx_train: context the model was trained on, in tokens; in a plan, how far it reaches
            with the options.
        input: the embedding, which stays on the host.
        layers: one item per layer.
        output: the last norm and the output matrix, tied or not.
        tied: whether the output matrix is the embedding.
    """

    n_embd: int
    n_ff: int
    q_width: int
    n_head: int
    kv_widths: tuple[int, ...]
    n_vocab: int
    n_merges: int
    n_ctx_train: int
    input: Weights
    layers: tuple[Weights, ...]
    output: Weights
    tied: bool

    @property
    def n_layer(self) -> int:
        """Number of layers."""
        return len(self.layers)

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        tied = self.input.nbytes if self.tied else 0
        return sum(part.nbytes for part in (self.input, *self.layers, self.output)) - tied


def read_facts(info: GGUFInfo) -> ModelFacts:
    """Gather the facts."""
    hparams = info.hparams
    merges = info.metadata.get("tokenizer.ggml.merges", ())
    places = _by_place(info)
    tied = not any(tensor.name == "output.weight" for tensor in info.tensors)
    embedding = places.get("input", Weights(by_type={}))
    output = places.get("output", Weights(by_type={}))
    if tied:  # llama.cpp makes a second tensor of it, which is mapped to the same bytes
        output = replace(output, nbytes=output.nbytes + embedding.nbytes, by_type=embedding.by_type)
    return ModelFacts(
        n_embd=hparams.n_embd,
        n_ff=max(hparams.n_ff) * max(*hparams.n_expert_used, 1),
        q_width=max(hparams.n_head) * max(hparams.key_length, hparams.value_length),
        n_head=max(hparams.n_head),
        kv_widths=hparams.kv_widths,
        n_vocab=info.n_vocab,
        n_merges=merges.count if isinstance(merges, LongArray) else len(merges),
        n_ctx_train=info.context_length,
        input=embedding,
        layers=tuple(places.get(str(i), Weights(by_type={})) for i in range(info.n_layers)),
        output=output,
        tied=tied,
    )


def _by_place(info: GGUFInfo) -> dict[str, Weights]:
    places: dict[str, list[TensorInfo]] = {}
    for tensor in info.tensors:
        layer = _LAYER.match(tensor.name)
        edge = "input" if tensor.name.startswith("token_embd") else "output"
        places.setdefault(layer[1] if layer else edge, []).append(tensor)
    is_split = len(info.parts) > 1
    return {place: _weights(tensors, is_split=is_split) for place, tensors in places.items()}


def _weights(tensors: list[TensorInfo], *, is_split: bool) -> Weights:
    by_type: dict[str, int] = {}
    for tensor in tensors:
        if len(tensor.shape) > 1:
            by_type[tensor.type] = by_type.get(tensor.type, 0) + tensor.nbytes
    return Weights(
        nbytes=sum(tensor.nbytes for tensor in tensors),
        by_type=by_type,
        start=min(tensor.offset for tensor in tensors),
        end=0 if is_split else max(tensor.offset + tensor.nbytes for tensor in tensors),
    )
