"""All rules in their order: the cheap ones first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .general import check_general
from .llama import check_llama
from .vocabulary import check_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..header.hyperparameters import HyperParameters
    from ..header.keys import Keys
    from ..header.parser import TensorInfo


def check(keys: Keys, hparams: HyperParameters, tensors: Sequence[TensorInfo]) -> None:
    """Refuse what llama.cpp must not see.

    ``tensors`` are those of all parts of the model.

    Raises:
        ModelFileError: names the file, the key or tensor, and what is wrong with it.
    """
    check_general(keys, hparams, tensors)
    if keys.architecture == "llama":
        check_llama(keys, hparams, tensors)
    check_vocabulary(keys)
