"""Log probabilities of tokens, from the model's own distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt


@dataclass(frozen=True)
class TokenLogprob:
    """A token and how likely the model found it, before any sampler or temperature.

    Attributes:
        token: its id.
        piece: its bytes, which may be part of a character; a control token's are its text's.
        logprob: natural logarithm of its probability, at most 0.
        top: of a generated token, the likeliest tokens in its place, likeliest first.
    """

    token: int
    piece: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()

    @property
    def text(self) -> str:
        """The piece as text; parts of characters become U+FFFD."""
        return self.piece.decode("utf-8", errors="replace")


def token_logprob(
    logits: npt.NDArray[np.float32], token: int, n_top: int, spelling: Callable[[int], bytes]
) -> TokenLogprob:
    """Return the log softmax of ``logits`` (``[n_vocab]``) at ``token`` and where it is largest."""
    shifted = logits.astype(np.float64) - logits.max()
    normalised = shifted - np.log(np.exp(shifted).sum())
    first = len(logits) - min(n_top, len(logits))
    largest = np.argpartition(normalised, first - 1)[first:].tolist() if n_top else []
    ranked = sorted(largest, key=lambda one: (-normalised[one], one))
    top = tuple(TokenLogprob(one, spelling(one), float(normalised[one])) for one in ranked)
    return TokenLogprob(token, spelling(token), float(normalised[token]), top)
