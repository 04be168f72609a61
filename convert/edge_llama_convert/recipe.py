"""Which tensor gets which type: llama.cpp's mixtures, as data.

A recipe has a base type and, per kind of tensor, rules that are tried in order; the first whose
condition holds for the layer gives the type. Source of the rules: llama_tensor_get_type_impl and
tensor_type_fallback in llama.cpp's src/llama-quant.cpp (no importance matrix).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from .errors import ConvertError
from .ggml import GGMLType
from .overrides import TypeOverrides

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .params import LlamaParams
    from .tensors import GGUFTensor


class Recipe(str, Enum):
    """The file types that can be written; the value is the name on the command line."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q6_K = "q6_k"
    Q5_K_M = "q5_k_m"
    Q5_K_S = "q5_k_s"
    Q5_1 = "q5_1"
    Q5_0 = "q5_0"
    Q4_K_M = "q4_k_m"
    Q4_K_S = "q4_k_s"
    Q4_1 = "q4_1"
    Q4_0 = "q4_0"
    IQ4_NL = "iq4_nl"
    IQ4_XS = "iq4_xs"
    Q3_K_L = "q3_k_l"
    Q3_K_M = "q3_k_m"
    Q3_K_S = "q3_k_s"
    Q2_K = "q2_k"

    @classmethod
    def parse(cls, name: str | Recipe) -> Recipe:
        """Return the recipe called ``name`` (any case); ConvertError names the known ones."""
        try:
            return cls(name.lower())
        except ValueError:
            raise ConvertError(
                f"unknown type {str(name)!r}",
                hint=f"Known types: {', '.join(recipe.value for recipe in cls)}.",
            ) from None

    @property
    def file_type(self) -> int:
        """The number for ``general.file_type`` (``enum llama_ftype`` in llama.h)."""
        return _MIXTURES[self].file_type

    @property
    def base(self) -> GGMLType:
        """The type of the tensors no rule speaks of."""
        return _MIXTURES[self].base


@dataclass(frozen=True)
class _Layer:
    """What a rule may look at."""

    index: int
    count: int
    n_gqa: int
    n_experts: int


def _always(_: _Layer) -> bool:
    return True


def _first(count: int) -> Callable[[_Layer], bool]:
    return lambda layer: layer.index < count


def _first_part(parts: int) -> Callable[[_Layer], bool]:
    return lambda layer: layer.index < layer.count // parts


def _grouped(layer: _Layer) -> bool:
    return layer.n_gqa >= 4


def _eight_experts(layer: _Layer) -> bool:
    return layer.n_experts == 8


def _more_bits(layer: _Layer) -> bool:
    """Tell whether the layer is in the first or last eighth, or every third between."""
    eighth = layer.count // 8
    return (
        layer.index < eighth
        or layer.index >= 7 * layer.count // 8
        or (layer.index - eighth) % 3 == 2
    )


_Rules = tuple[tuple["Callable[[_Layer], bool]", GGMLType], ...]


@dataclass(frozen=True)
class _Mixture:
    base: GGMLType
    file_type: int
    rules: Mapping[str, _Rules] = field(default_factory=dict)


_T = GGMLType

#: With eight experts the attention is a small part of the model, so llama.cpp gives it more bits.
#: These come before the mixture's own rules.
_EIGHT: Mapping[str, _Rules] = {
    "attn_k": ((_eight_experts, _T.Q8_0),),
    "attn_v": ((_eight_experts, _T.Q8_0),),
}
_EIGHT_Q5: _Rules = ((_eight_experts, _T.Q5_K),)
_MORE_Q6: _Rules = ((_more_bits, _T.Q6_K),)
_IQ4_RULES: Mapping[str, _Rules] = {
    "attn_v": ((_grouped, _T.Q5_K),),
    "attn_output": _EIGHT_Q5,
    "ffn_down": ((_first_part(8), _T.Q5_K),),
}

_MIXTURES: Mapping[Recipe, _Mixture] = {
    Recipe.F32: _Mixture(_T.F32, 0),
    Recipe.F16: _Mixture(_T.F16, 1),
    Recipe.Q4_0: _Mixture(_T.Q4_0, 2),
    Recipe.Q4_1: _Mixture(_T.Q4_1, 3),
    Recipe.Q8_0: _Mixture(_T.Q8_0, 7),
    Recipe.Q5_0: _Mixture(_T.Q5_0, 8),
    Recipe.Q5_1: _Mixture(_T.Q5_1, 9),
    Recipe.Q2_K: _Mixture(
        _T.Q2_K,
        10,
        {
            "attn_v": ((_grouped, _T.Q4_K), (_always, _T.Q3_K)),
            "attn_output": (*_EIGHT_Q5, (_always, _T.Q3_K)),
            "ffn_down": ((_always, _T.Q3_K),),
        },
    ),
    Recipe.Q3_K_S: _Mixture(_T.Q3_K, 11, {"attn_output": _EIGHT_Q5}),
    Recipe.Q3_K_M: _Mixture(
        _T.Q3_K,
        12,
        {
            "attn_v": ((_first(2), _T.Q5_K), (_always, _T.Q4_K)),
            "attn_output": (*_EIGHT_Q5, (_always, _T.Q4_K)),
            "ffn_down": ((_first_part(16), _T.Q5_K), (_always, _T.Q4_K)),
        },
    ),
    Recipe.Q3_K_L: _Mixture(
        _T.Q3_K,
        13,
        {
            "attn_v": ((_always, _T.Q5_K),),
            "attn_output": ((_eight_experts, _T.Q3_K), (_always, _T.Q5_K)),
            "ffn_down": ((_always, _T.Q5_K),),
        },
    ),
    Recipe.Q4_K_S: _Mixture(
        _T.Q4_K,
        14,
        {
            "attn_v": ((_first(4), _T.Q5_K),),
            "attn_output": _EIGHT_Q5,
            "ffn_down": ((_first_part(8), _T.Q5_K),),
        },
    ),
    Recipe.Q4_K_M: _Mixture(
        _T.Q4_K,
        15,
        {"attn_v": _MORE_Q6, "attn_output": _EIGHT_Q5, "ffn_down": _MORE_Q6},
    ),
    Recipe.Q5_K_S: _Mixture(_T.Q5_K, 16),
    Recipe.Q5_K_M: _Mixture(_T.Q5_K, 17, {"attn_v": _MORE_Q6, "ffn_down": _MORE_Q6}),
    Recipe.Q6_K: _Mixture(_T.Q6_K, 18),
    Recipe.IQ4_NL: _Mixture(_T.IQ4_NL, 25, _IQ4_RULES),
    Recipe.IQ4_XS: _Mixture(_T.IQ4_XS, 30, _IQ4_RULES),
    Recipe.BF16: _Mixture(_T.BF16, 32),
}

#: The type that takes over when a row is no multiple of 256 elements.
_FALLBACK = {
    _T.Q2_K: _T.Q4_0,
    _T.Q3_K: _T.Q4_0,
    _T.Q4_K: _T.Q5_0,
    _T.Q5_K: _T.Q5_1,
    _T.Q6_K: _T.Q8_0,
    _T.IQ4_XS: _T.IQ4_NL,
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

    Raises:
        ConvertError: an override that cannot apply.
    """
    overrides = overrides or TypeOverrides()
    if overrides.tensors and not recipe.base.is_quantised:
        raise ConvertError(
            f"--tensor-type has no effect with --type {recipe.value}",
            hint="Choose a quantised --type, or drop --tensor-type.",
        )
    has_output = any(tensor.name == "output.weight" for tensor in tensors)
    counts = dict.fromkeys(_COUNTED, 0)
    kinds = []
    for tensor in tensors:
        role = _role(tensor)
        chosen = _overridden(tensor, role, recipe, overrides, has_output=has_output)
        if chosen is None:
            by_count = role in counts and not (role == "ffn_down" and params.n_experts)
            index = counts[role] if by_count else tensor.layer
            chosen = _choose(tensor, role, index, recipe, params, has_output=has_output)
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
    recipe: Recipe,
    params: LlamaParams,
    *,
    has_output: bool,
) -> GGMLType:
    if not role:
        return GGMLType.F32
    mixture = _MIXTURES[recipe]
    if not mixture.base.is_quantised:
        return mixture.base
    n_per_row = tensor.shape[-1]
    # Without an output matrix the embedding doubles as one and gets its type.
    if role == "output" or (role == "token_embd" and not has_output):
        chosen = _output_type(mixture.base, n_per_row)
    else:
        layer = _Layer(index, params.n_layers, params.n_gqa, params.n_experts or 0)
        rules = (*_EIGHT.get(role, ()), *mixture.rules.get(role, ()))
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
