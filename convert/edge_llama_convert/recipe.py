"""Which tensor gets which type: llama.cpp's mixtures, as data.

A recipe has a base type and, per kind of tensor, rules that are tried in order; the first whose
condition holds for the layer gives the type. Source of the rules: llama_tensor_get_type_impl and
tensor_type_fallback in llama.cpp's src/llama-quant.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from .errors import ConvertError
from .ggml import GGMLType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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
        return MIXTURES[self].file_type

    @property
    def base(self) -> GGMLType:
        """The type of the tensors no rule speaks of."""
        return MIXTURES[self].base


@dataclass(frozen=True)
class Layer:
    """What a rule may look at."""

    index: int
    count: int
    n_gqa: int
    n_experts: int


def _always(_: Layer) -> bool:
    return True


def _first(count: int) -> Callable[[Layer], bool]:
    return lambda layer: layer.index < count


def _first_part(parts: int) -> Callable[[Layer], bool]:
    return lambda layer: layer.index < layer.count // parts


def _grouped(layer: Layer) -> bool:
    return layer.n_gqa >= 4


def _eight_experts(layer: Layer) -> bool:
    return layer.n_experts == 8


def _more_bits(layer: Layer) -> bool:
    """Tell whether the layer is in the first or last eighth, or every third between."""
    eighth = layer.count // 8
    return (
        layer.index < eighth
        or layer.index >= 7 * layer.count // 8
        or (layer.index - eighth) % 3 == 2
    )


_Rules = tuple[tuple["Callable[[Layer], bool]", GGMLType], ...]


@dataclass(frozen=True)
class Mixture:
    """A recipe's base type, its number in ``general.file_type``, and its rules by kind.

    ``weighted`` are the rules that take the place of ``rules`` when there is an importance matrix.
    """

    base: GGMLType
    file_type: int
    rules: Mapping[str, _Rules] = field(default_factory=dict)
    weighted: Mapping[str, _Rules] = field(default_factory=dict)

    def when_weighted(self) -> Mixture:
        """Return the mixture as it is with an importance matrix."""
        return replace(self, rules={**self.rules, **self.weighted})


_T = GGMLType

#: With eight experts the attention is a small part of the model, so llama.cpp gives it more bits.
#: These come before the mixture's own rules.
EIGHT_EXPERTS: Mapping[str, _Rules] = {
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
_IQ4_WEIGHTED: Mapping[str, _Rules] = {"ffn_down": ()}

MIXTURES: Mapping[Recipe, Mixture] = {
    Recipe.F32: Mixture(_T.F32, 0),
    Recipe.F16: Mixture(_T.F16, 1),
    Recipe.Q4_0: Mixture(_T.Q4_0, 2, weighted={"ffn_down": ((_first_part(8), _T.Q4_1),)}),
    Recipe.Q4_1: Mixture(_T.Q4_1, 3),
    Recipe.Q8_0: Mixture(_T.Q8_0, 7),
    Recipe.Q5_0: Mixture(_T.Q5_0, 8, weighted={"ffn_down": ((_first_part(8), _T.Q5_1),)}),
    Recipe.Q5_1: Mixture(_T.Q5_1, 9),
    Recipe.Q2_K: Mixture(
        _T.Q2_K,
        10,
        {
            "attn_v": ((_grouped, _T.Q4_K), (_always, _T.Q3_K)),
            "attn_output": (*_EIGHT_Q5, (_always, _T.Q3_K)),
            "ffn_down": ((_always, _T.Q3_K),),
        },
    ),
    Recipe.Q3_K_S: Mixture(_T.Q3_K, 11, {"attn_output": _EIGHT_Q5}),
    Recipe.Q3_K_M: Mixture(
        _T.Q3_K,
        12,
        {
            "attn_v": ((_first(2), _T.Q5_K), (_always, _T.Q4_K)),
            "attn_output": (*_EIGHT_Q5, (_always, _T.Q4_K)),
            "ffn_down": ((_first_part(16), _T.Q5_K), (_always, _T.Q4_K)),
        },
    ),
    Recipe.Q3_K_L: Mixture(
        _T.Q3_K,
        13,
        {
            "attn_v": ((_always, _T.Q5_K),),
            "attn_output": ((_eight_experts, _T.Q3_K), (_always, _T.Q5_K)),
            "ffn_down": ((_always, _T.Q5_K),),
        },
    ),
    Recipe.Q4_K_S: Mixture(
        _T.Q4_K,
        14,
        {
            "attn_v": ((_first(4), _T.Q5_K),),
            "attn_output": _EIGHT_Q5,
            "ffn_down": ((_first_part(8), _T.Q5_K),),
        },
    ),
    Recipe.Q4_K_M: Mixture(
        _T.Q4_K,
        15,
        {"attn_v": _MORE_Q6, "attn_output": _EIGHT_Q5, "ffn_down": _MORE_Q6},
    ),
    Recipe.Q5_K_S: Mixture(_T.Q5_K, 16),
    Recipe.Q5_K_M: Mixture(_T.Q5_K, 17, {"attn_v": _MORE_Q6, "ffn_down": _MORE_Q6}),
    Recipe.Q6_K: Mixture(_T.Q6_K, 18),
    Recipe.IQ4_NL: Mixture(_T.IQ4_NL, 25, _IQ4_RULES, _IQ4_WEIGHTED),
    Recipe.IQ4_XS: Mixture(_T.IQ4_XS, 30, _IQ4_RULES, _IQ4_WEIGHTED),
    Recipe.BF16: Mixture(_T.BF16, 32),
}
