"""The type of every tensor: the recipe's rules, the user's overrides, and what fits the rows.

As llama_tensor_get_type and tensor_type_fallback in llama.cpp's src/llama-quant.cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import ConvertError
from .ggml import GGMLType
from .overrides import TypeOverrides
from .recipe import EIGHT_EXPERTS, MIXTURES, Layer, Mixture, Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .params import LlamaParams
    from .tensors import GGUFTensor

#: The type that takes over when a row is no multiple of 256 elements.
_FALLBACK = {
    GGMLType.Q2_K: GGMLType.Q4_0,
    GGMLType.Q3_K: GGMLType.Q4_0,
    GGMLType.Q4_K: GGMLType.Q5_0,
    GGMLType.Q5_K: GGMLType.Q5_1,
    GGMLType.Q6_K: GGMLType.Q8_0,
    GGMLType.IQ4_XS: GGMLType.IQ4_NL,
}

#: Tensors whose rules go by how many of their kind came before, not by the layer's number. The
#: two differ only where an override takes one out of the count.
_COUNTED = ("attn_v", "ffn_down")


def choose_types(
    tensors: Sequence[GGUFTensor],
    recipe: Recipe,
    params: LlamaParams,
    overrides: TypeOverrides | None = None,
) -> list[GGMLType]:
    """Return the type of every tensor, in order, as llama-quantize would choose it.

    Tensors that carry importance are chosen for as llama-quantize does with ``--imatrix``.

    Raises:
        ConvertError: an override that cannot apply.
    """
    overrides = overrides or TypeOverrides()
    if overrides.tensors and not recipe.base.is_quantised:
        raise ConvertError(
            f"--tensor-type has no effect with --type {recipe.value}",
            hint="Choose a quantised --type, or drop --tensor-type.",
        )
    mixture = MIXTURES[recipe]
    if any(tensor.importance is not None for tensor in tensors):
        mixture = mixture.when_weighted()
    has_output = any(tensor.name == "output.weight" for tensor in tensors)
    counts = dict.fromkeys(_COUNTED, 0)
    kinds = []
    for tensor in tensors:
        role = _role(tensor)
        chosen = _overridden(tensor, role, recipe, overrides, has_output=has_output)
        if chosen is None:
            by_count = role in counts and not (role == "ffn_down" and params.n_experts)
            index = counts[role] if by_count else tensor.layer
            chosen = _choose(tensor, role, index, mixture, params, has_output=has_output)
            if role in counts:
                counts[role] += 1
        kinds.append(chosen)
    return kinds


def _role(tensor: GGUFTensor) -> str:
    """Return what a matrix is for, e.g. "attn_v"; "" for what is never quantised."""
    role = tensor.name.removesuffix(".weight").rpartition(".")[2].removesuffix("_exps")
    kept = len(tensor.shape) < 2 or role.endswith("_norm") or role == "ffn_gate_inp"
    return "" if kept else role


def _overridden(
    tensor: GGUFTensor,
    role: str,
    recipe: Recipe,
    overrides: TypeOverrides,
    *,
    has_output: bool,
) -> GGMLType | None:
    """Return the type an override gives, or None."""
    if not role:
        return None
    exact = None
    if role == "token_embd":
        exact = overrides.embedding
        if exact is None and not has_output and recipe.base.is_quantised:
            exact = overrides.output
    elif role == "output":
        exact = overrides.output
    n_per_row = tensor.shape[-1]
    if exact is not None:
        if n_per_row % exact.block_elements:
            raise ConvertError(
                f"tensor {tensor.name} cannot be {exact.name}: its rows of {n_per_row} elements "
                f"are no multiple of {exact.block_elements}",
                hint="Choose a type with smaller blocks, e.g. q8_0.",
            )
        return exact
    manual = overrides.for_tensor(tensor.name)
    return None if manual is None else _fitting(manual, n_per_row)


def _choose(  # noqa: PLR0913 - all that a rule may depend on
    tensor: GGUFTensor,
    role: str,
    index: int,
    mixture: Mixture,
    params: LlamaParams,
    *,
    has_output: bool,
) -> GGMLType:
    if not role:
        return GGMLType.F32
    if not mixture.base.is_quantised:
        return mixture.base
    n_per_row = tensor.shape[-1]
    # Without an output matrix the embedding doubles as one and gets its type.
    if role == "output" or (role == "token_embd" and not has_output):
        chosen = _output_type(mixture.base, n_per_row)
    else:
        layer = Layer(index, params.n_layers, params.n_gqa, params.n_experts or 0)
        rules = (*EIGHT_EXPERTS.get(role, ()), *mixture.rules.get(role, ()))
        chosen = next((kind for holds, kind in rules if holds(layer)), mixture.base)
        # 80 layers with grouped heads is llama.cpp's "70B": its small attn_v is worth more bits.
        is_70b = params.n_layers == 80 and params.n_gqa > 1
        if role == "attn_v" and is_70b and chosen in {GGMLType.Q3_K, GGMLType.Q4_K}:
            chosen = GGMLType.Q5_K
    return _fitting(chosen, n_per_row)


def _fitting(kind: GGMLType, n_per_row: int) -> GGMLType:
    """Return ``kind``, or what takes its place when the row is no multiple of its blocks."""
    if n_per_row % kind.block_elements:
        kind = _FALLBACK.get(kind, kind)
    return GGMLType.F16 if n_per_row % kind.block_elements else kind


def _output_type(base: GGMLType, n_per_row: int) -> GGMLType:
    if base is GGMLType.Q8_0 or n_per_row % base.block_elements:
        return GGMLType.Q8_0
    return GGMLType.Q6_K
