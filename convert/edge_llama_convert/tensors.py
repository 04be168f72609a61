"""Hugging Face's LLaMA tensors -> GGUF tensors: names, shapes, experts, Q/K row permutation."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .errors import TensorError
from .quantised import check_plain
from .rope import frequency_factors
from .shapecheck import shape_faults

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from .checkpoint import Checkpoint
    from .params import LlamaParams
    from .refs import TensorRef

#: Buffers of old checkpoints that carry no weights.
_IGNORED = re.compile(r"\.(rotary_emb\.inv_freq|attention\.masked_bias|attention\.bias)$")


@dataclass(frozen=True)
class GGUFTensor:
    """One tensor of the result, before a type is chosen for it.

    Attributes:
        name: GGUF name, e.g. ``blk.0.attn_q.weight``.
        shape: row-major; the last number is the row length (ggml writes it first).
        sources: where the values come from, in order: one tensor, or one per expert; none when
            they are computed (``values``).
        permuted_heads: when set, the rows are regrouped within each of that many heads.
        values: float32, only for tensors no checkpoint holds (rope frequencies).
        importance: float32 ``[matrices, n_per_row]``, what each column weighs in each matrix of a
            stack; None without an importance matrix, or where it does not name the tensor.
    """

    name: str
    shape: tuple[int, ...]
    sources: tuple[TensorRef, ...] = ()
    permuted_heads: int | None = None
    values: npt.NDArray[np.float32] | None = None
    importance: npt.NDArray[np.float32] | None = None

    @property
    def rows(self) -> int:
        """Number of rows; a vector that is permuted counts each element as one."""
        return math.prod(self.shape) // self.n_per_row

    @property
    def rows_per_source(self) -> int:
        """Number of rows that each source holds."""
        return self.rows // max(1, len(self.sources))

    @property
    def rows_per_matrix(self) -> int:
        """Number of rows of one matrix; of a stack, which may be one source, an expert's."""
        return self.rows // math.prod(self.shape[:-2])

    @property
    def n_per_row(self) -> int:
        """Elements per row."""
        return 1 if len(self.shape) == 1 and self.permuted_heads else self.shape[-1]

    @property
    def rows_together(self) -> int:
        """Number of rows that can only be read together: a head's if they are permuted, else 1."""
        return self.rows // self.permuted_heads if self.permuted_heads else 1

    def source_name(self, row: int) -> str:
        """Return the checkpoint's name of the tensor that ``row`` comes from."""
        return self.sources[row // self.rows_per_source].name if self.sources else self.name

    @property
    def layer(self) -> int:
        """Number of the layer, -1 for the tensors outside the layers."""
        return layer_of(self.name)


def layer_of(name: str) -> int:
    """Return the layer number in a GGUF tensor name, -1 when it has none."""
    match = re.match(r"blk\.(\d+)\.", name)
    return int(match[1]) if match else -1


@dataclass(frozen=True)
class _Expected:
    """One Hugging Face tensor of ``shape``, and the tensor of the GGUF it becomes or joins."""

    name: str
    shape: tuple[int, ...]
    permuted_heads: int | None = None


#: Mixtral's names within an expert -> GGUF's for all experts in one tensor.
_EXPERT_LINEARS = {"w1": "ffn_gate_exps", "w2": "ffn_down_exps", "w3": "ffn_up_exps"}


def _expected(params: LlamaParams, *, with_output: bool) -> dict[str, _Expected]:
    """Map the Hugging Face name of every tensor the configuration calls for to its GGUF side.

    Experts are in their order, which is the order of a stacked tensor's sources.
    """
    width, inner = params.hidden_size, params.intermediate_size
    q_rows, kv_rows = params.n_heads * params.head_dim, params.n_kv_heads * params.head_dim
    linears: dict[
        str, tuple[str, int, int, int | None, bool]
    ] = {  # module: (GGUF name, rows, columns, heads to permute, has a bias)
        "self_attn.q_proj": ("attn_q", q_rows, width, params.n_heads, params.attention_bias),
        "self_attn.k_proj": ("attn_k", kv_rows, width, params.n_kv_heads, params.attention_bias),
        "self_attn.v_proj": ("attn_v", kv_rows, width, None, params.attention_bias),
        "self_attn.o_proj": ("attn_output", width, q_rows, None, params.attention_bias),
    }
    if params.n_experts is None:
        linears |= {
            "mlp.gate_proj": ("ffn_gate", inner, width, None, params.mlp_bias),
            "mlp.up_proj": ("ffn_up", inner, width, None, params.mlp_bias),
            "mlp.down_proj": ("ffn_down", width, inner, None, params.mlp_bias),
        }
    else:
        linears["block_sparse_moe.gate"] = ("ffn_gate_inp", params.n_experts, width, None, False)
    norms = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    vocabulary = (params.vocab_size, width)
    tensors = {
        "model.embed_tokens.weight": _Expected("token_embd.weight", vocabulary),
        "model.norm.weight": _Expected("output_norm.weight", (width,)),
    }
    if with_output:
        tensors["lm_head.weight"] = _Expected("output.weight", vocabulary)
    for layer in range(params.n_layers):
        hf, gguf = f"model.layers.{layer}.", f"blk.{layer}."
        for module, (name, rows, columns, heads, has_bias) in linears.items():
            tensors[f"{hf}{module}.weight"] = _Expected(
                f"{gguf}{name}.weight", (rows, columns), heads
            )
            if has_bias:
                tensors[f"{hf}{module}.bias"] = _Expected(f"{gguf}{name}.bias", (rows,), heads)
        for expert in range(params.n_experts or 0):
            for module, name in _EXPERT_LINEARS.items():
                shape = (width, inner) if module == "w2" else (inner, width)
                tensors[f"{hf}block_sparse_moe.experts.{expert}.{module}.weight"] = _Expected(
                    f"{gguf}{name}.weight", shape
                )
        for module, name in norms.items():
            tensors[f"{hf}{module}.weight"] = _Expected(f"{gguf}{name}.weight", (width,))
    return tensors


def map_tensors(checkpoint: Checkpoint, params: LlamaParams) -> list[GGUFTensor]:
    """Return the GGUF's tensors in file order: by layer (-1 first), then by name.

    That is the order in which llama-quantize writes them.

    Raises:
        UnsupportedError: the weights are quantised, or of a dtype that cannot be converted.
        TensorError: one error that names every missing, unexpected and mis-shaped tensor.
    """
    found = {name: ref for name, ref in checkpoint.tensors.items() if not _IGNORED.search(name)}
    check_plain(checkpoint, found)
    with_output = not params.tied_embeddings or "lm_head.weight" in found
    expected = _expected(params, with_output=with_output)
    faults = shape_faults(
        {name: want.shape for name, want in expected.items()},
        {name: ref.shape for name, ref in found.items()},
        "config.json",
    )
    if faults:
        raise TensorError(
            f"{checkpoint.path}: {'; '.join(faults)}",
            hint=_wrapped(found)
            or "config.json and the weights are not of the same model, or files are missing.",
        )
    sources: dict[str, list[TensorRef]] = {}
    for name, want in expected.items():
        sources.setdefault(want.name, []).append(found[name])
    wanted = {want.name: want for want in expected.values()}
    tensors = [
        _gguf_tensor(wanted[name], refs, permuted=not checkpoint.interleaved)
        for name, refs in sources.items()
    ]
    factors = frequency_factors(params)
    if factors is not None:
        tensors.append(GGUFTensor("rope_freqs.weight", factors.shape, values=factors))
    return sorted(tensors, key=lambda tensor: (tensor.layer, tensor.name))


def gguf_shapes(params: LlamaParams) -> dict[str, tuple[int, ...]]:
    """Map the GGUF name of every tensor that a model may have, with all biases, to its shape."""
    one = replace(
        params, attention_bias=True, mlp_bias=True, n_experts=params.n_experts and 1
    )  # a stack is as many times one expert
    shapes = {want.name: want.shape for want in _expected(one, with_output=True).values()}
    for name, shape in shapes.items():
        if name.endswith("_exps.weight"):
            shapes[name] = (params.n_experts or 0, *shape)
        elif name.endswith("ffn_gate_inp.weight"):
            shapes[name] = (params.n_experts or 0, params.hidden_size)
    return {**shapes, "rope_freqs.weight": (params.head_dim // 2,)}


def _gguf_tensor(want: _Expected, refs: list[TensorRef], *, permuted: bool) -> GGUFTensor:
    stacked = want.name.endswith("_exps.weight")
    shape = (len(refs), *want.shape) if stacked else want.shape
    heads = want.permuted_heads if permuted else None
    return GGUFTensor(want.name, shape, tuple(refs), heads)


def _wrapped(found: Iterable[str]) -> str | None:
    """Return what to do about names that begin otherwise than the plain model's, if they do."""
    ending = "embed_tokens.weight"
    prefixes = [name.removesuffix(ending) for name in found if name.endswith(ending)]
    if not prefixes or prefixes[0] == "model.":
        return None
    return (
        f"Names begin with {prefixes[0]!r}, not with 'model.': save the whole model itself, "
        "unwrapped (PEFT, torch.compile, DDP) and with its output matrix."
    )
