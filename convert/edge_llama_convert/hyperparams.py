"""The hyper-parameters that a GGUF states, held against those of its checkpoint."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .agreement import rotation_for
from .checks import Check
from .errors import UnsupportedError
from .ggufparams import read_gguf_params
from .requantize import read_whole_header, tensors_of
from .weights import open_weights

if TYPE_CHECKING:
    from pathlib import Path

    from .plans import Plan
    from .rotation import Rotation

NAME = "hyper-parameters"

#: What changes the answers and must be equal; the context's length is only advice.
_SIZES = (
    *("hidden_size", "intermediate_size", "n_layers", "n_heads", "n_kv_heads", "head_dim"),
    *("vocab_size", "n_experts", "n_experts_used"),
)


def compare_hyper_parameters(plan: Plan, path: Path) -> Check:
    """Compare the sizes, the epsilon and the rotation of positions with the checkpoint's.

    The rotation shows at late positions only, where no short forward pass comes.
    """
    header = read_whole_header(path)
    found, stated = read_gguf_params(path, header), plan.params
    faults = [
        f"{name} is {getattr(found, name)}, {getattr(stated, name)} expected"
        for name in _SIZES
        if getattr(found, name) != getattr(stated, name)
    ]
    if not math.isclose(found.rms_norm_eps, stated.rms_norm_eps, rel_tol=1e-6):
        faults.append(f"rms_norm_eps is {found.rms_norm_eps}, {stated.rms_norm_eps} expected")
    try:
        with open_weights([target.tensor for target in plan.layout.targets]) as weights:
            expected = rotation_for(weights, stated)
    except UnsupportedError as error:
        return Check(NAME, not faults, "; ".join([*faults, str(error)]), noteworthy=True)
    if not faults:
        try:
            with open_weights(tensors_of(header)) as weights:
                faults += _turned_otherwise(rotation_for(weights, found), expected)
        except UnsupportedError as error:
            faults.append(str(error))
    if faults:
        return Check(NAME, passed=False, detail="; ".join(faults))
    detail = f"{len(_SIZES)} sizes and the rotation of {len(expected.frequencies)} pairs are equal"
    return Check(NAME, passed=True, detail=detail)


def _turned_otherwise(found: Rotation, expected: Rotation) -> list[str]:
    """Say where two rotations differ by more than float32's rounding."""
    faults = []
    wrong = ~np.isclose(found.frequencies, expected.frequencies, rtol=1e-4, atol=0)
    if wrong.any():
        first = int(wrong.argmax())
        faults.append(
            f"rope turns {wrong.sum()} of {len(wrong)} pairs otherwise, e.g. pair {first} by "
            f"{found.frequencies[first]:.4g} per position, {expected.frequencies[first]:.4g} "
            "expected"
        )
    if not math.isclose(found.scale, expected.scale, rel_tol=1e-4):
        faults.append(f"rope's scale is {found.scale:.4f}, {expected.scale:.4f} expected")
    return faults
