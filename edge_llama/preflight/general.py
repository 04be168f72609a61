"""Rules for every architecture: what llama.cpp asserts before it looks at the architecture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..header.hyperparameters import MAX_EXPERTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..header.hyperparameters import HyperParameters
    from ..header.keys import Keys
    from ..header.parser import TensorInfo

_ROPE_SCALING = ("none", "linear", "yarn", "longrope")

#: ggml asserts this of the address at which mapped tensors begin.
_ALIGNMENT = 32


def check_general(keys: Keys, hparams: HyperParameters, tensors: Sequence[TensorInfo]) -> None:
    """Check the hyper-parameters that all architectures share, and where the tensors lie."""
    for name in ("general.name", "tokenizer.ggml.pre"):
        keys.text(name, "")  # of this type, or absent
    if keys.count(".nextn_predict_layers", 0) > hparams.n_layer:
        keys.fail(f"key {keys.full('.nextn_predict_layers')} exceeds the number of layers")
    if hparams.rope_scaling.type not in _ROPE_SCALING:
        keys.fail(
            f"key {keys.full('.rope.scaling.type')} = {hparams.rope_scaling.type[:40]!r} is none "
            f"of {', '.join(_ROPE_SCALING)}"
        )
    for name in (".attention.layer_norm_rms_epsilon", ".attention.layer_norm_epsilon"):
        value = keys.real(name, 0.0)
        if not (math.isfinite(value) and value >= 0):
            keys.fail(f"key {keys.full(name)} = {value} is not possible")
    # These two families mean "none" by one expert.
    if not keys.architecture.startswith("hunyuan"):
        _check_experts(keys, hparams)
    if not tensors:
        keys.fail("it holds no weights", hint="This is a vocabulary-only file; name the model.")
    for tensor in tensors:
        if tensor.offset % _ALIGNMENT:
            keys.fail(
                f"tensor {tensor.name} is not at a multiple of {_ALIGNMENT} bytes",
                hint="llama.cpp cannot map such a file; convert it again.",
            )


def _check_experts(keys: Keys, hparams: HyperParameters) -> None:
    experts, used = hparams.n_expert, max(hparams.n_expert_used)
    groups = keys.count(".expert_group_count", 0)
    groups_used = keys.count(".expert_group_used_count", 0)
    if experts > MAX_EXPERTS or used > experts or (experts and not used):
        keys.fail(
            f"{keys.full('.expert_count')} = {experts:,} and {keys.full('.expert_used_count')} = "
            f"{used:,} are not possible"
        )
    if groups and (
        groups >= experts or (groups > 1 and (experts % groups or not 0 < groups_used < groups))
    ):
        keys.fail(
            f"{keys.full('.expert_group_count')} = {groups:,} does not fit to {experts} experts"
        )
