"""llama.cpp's sampler chain, built from :class:`~edge_llama.config.Sampling`."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from ..errors import BackendError
from .library import llama

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..config import Sampling
    from .context import NativeContext
    from .model import NativeModel


class NativeSampler:
    """A chain that always ends in a selector; owned by one generation.

    Attributes:
        seed: the seed in use, drawn when the options name none.
    """

    def __init__(self, model: NativeModel, sampling: Sampling) -> None:
        lib = self._lib = llama()
        self.seed = secrets.randbelow(2**32 - 1) if sampling.seed is None else sampling.seed
        self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        if sampling.has_penalties:
            self._add(
                lib.llama_sampler_init_penalties(
                    model.n_vocab,
                    sampling.penalty_window,
                    sampling.repeat_penalty,
                    sampling.frequency_penalty,
                    sampling.presence_penalty,
                )
            )
        if sampling.temperature == 0:
            self._add(lib.llama_sampler_init_greedy())
            return
        if sampling.top_k:
            self._add(lib.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p < 1:
            self._add(lib.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p > 0:
            self._add(lib.llama_sampler_init_min_p(sampling.min_p, 1))
        self._add(lib.llama_sampler_init_temp(sampling.temperature))
        self._add(lib.llama_sampler_init_dist(self.seed))

    def _add(self, sampler: int | None) -> None:
        if not sampler:  # adding NULL would crash at the first sample
            self.close()
            raise BackendError(
                "llama.cpp refused a sampler", hint="Check the values of the sampling options."
            )
        self._lib.llama_sampler_chain_add(self._chain, sampler)

    def accept(self, tokens: Iterable[int]) -> None:
        """Tell the penalties about tokens that were not sampled, i.e. the prompt."""
        for token in tokens:
            self._lib.llama_sampler_accept(self._chain, token)

    def sample(self, context: NativeContext, index: int = -1) -> int:
        """Choose a token from the logits of one position of the last decode.

        ``index`` is the position in that batch, or -1 for the last that has logits.
        """
        context.require_logits(index)
        return int(self._lib.llama_sampler_sample(self._chain, context.handle, index))

    def close(self) -> None:
        """Free the chain; calling it again does nothing."""
        chain, self._chain = self._chain, None
        if chain:
            self._lib.llama_sampler_free(chain)
