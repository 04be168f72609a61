"""llama.cpp's sampler chain, built from :class:`~edge_llama.sampling.Sampling`."""

from __future__ import annotations

import copy
import ctypes
import math
import secrets
from typing import TYPE_CHECKING, Any

from ..closing import Closing
from ..errors import BackendError, InvalidOptionError, StateError
from .choose import count_likeliest, load_chooser
from .library import llama

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..guide import Guide
    from ..sampling import Sampling
    from .context import NativeContext
    from .model import NativeModel

#: Least number of candidates that a filter leaves; llama.cpp's default, and one stays anyway.
_MIN_KEEP = 0
#: How many candidates mirostat 1 estimates the distribution's shape from; llama.cpp's constant.
_MIROSTAT_M = 100


class NativeSampler(Closing):
    """A chain for one sequence that always ends in a selector; use as a context manager.

    What ``sampling`` leaves open, if it was not resolved before, is llama.cpp's default.

    Attributes:
        seed: the seed in use, drawn when the options name none.

    Raises:
        InvalidOptionError: ``logit_bias`` names a token the vocabulary lacks, or forbids all.
    """

    def __init__(self, model: NativeModel, sampling: Sampling) -> None:
        lib = self._lib = llama()
        sampling = sampling.resolve({})
        self.seed = secrets.randbelow(2**32 - 1) if sampling.seed is None else sampling.seed
        self._history = sampling.history
        biases = _biases(model, sampling)
        self._chooser, self._n_vocab = load_chooser(), model.n_vocab
        self._n_likeliest = None if biases else count_likeliest(sampling)
        self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        try:
            for sampler in _samplers(lib, model, sampling, self.seed, biases):
                if not sampler:  # adding NULL would crash at the first sample
                    raise BackendError(
                        "llama.cpp refused a sampler",
                        hint="Check the values of the sampling options.",
                    )
                lib.llama_sampler_chain_add(self._chain, sampler)
        except BaseException:
            self.close()
            raise

    @property
    def handle(self) -> Any:
        """The ``llama_sampler *`` of the chain; StateError after close."""
        if not self._chain:
            raise StateError("the sampler is closed", hint="Make a new one.")
        return self._chain

    def sample(self, context: NativeContext, index: int = -1) -> int:
        """Choose a token from the logits of one position of the last decode, and accept it.

        ``index`` is the position in that batch; -1 is its last.
        """
        context.require_logits(index)
        if self._chooser is not None and self._n_likeliest is not None:
            token = self._chooser(
                self.handle, context.handle, index, self._n_vocab, self._n_likeliest
            )
            if token >= 0:
                return token
        return int(self._lib.llama_sampler_sample(self.handle, context.handle, index))

    def sample_within(
        self, context: NativeContext, index: int, guide: Guide, *, masks_first: bool
    ) -> int:
        """As :meth:`sample`, but only a token that ``guide`` allows.

        What the chain chooses of all tokens is kept if it is allowed; if not, the choice is undone
        and the others' logits are masked, in place. Where the filters leave both ways the same
        tokens, their probabilities are the same. With ``masks_first`` it always is the second way.

        Raises:
            BackendError: nothing allowed has a chance.
        """
        if not masks_first:
            trial = self.clone()
            token = trial.sample(context, index)
            if guide.allows(token):
                self._chain, trial._chain = trial._chain, self._chain  # noqa: SLF001 - our own
                trial.close()
                return token
            trial.close()
        logits = context.logits_at(index)
        guide.mask(logits)
        if not logits.max() > -math.inf:
            raise BackendError(
                "no token that the grammar allows has a chance",
                hint="Check the grammar, and the logit_bias if there is one.",
            )
        return self.sample(context, index)

    def accept(self, tokens: Sequence[int]) -> None:
        """Tell the penalties about tokens that this sampler did not choose, as the prompt's."""
        for token in tokens[max(0, len(tokens) - self._history) :]:  # they would forget the rest
            self._lib.llama_sampler_accept(self.handle, token)

    def reset(self) -> None:
        """Forget all tokens and begin the random numbers anew, with the same seed."""
        self._lib.llama_sampler_reset(self.handle)

    def clone(self) -> NativeSampler:
        """Return a sampler of its own that goes on from this one's state; takes microseconds."""
        twin = copy.copy(self)
        twin._chain = self._lib.llama_sampler_clone(self.handle)  # noqa: SLF001 - our own
        return twin

    def close(self) -> None:
        """Free the chain; calling it again does nothing."""
        chain, self._chain = self._chain, None
        if chain:
            self._lib.llama_sampler_free(chain)


def _samplers(
    lib: Any, model: NativeModel, options: Sampling, seed: int, biases: dict[int, float]
) -> Iterator[Any]:
    """Make llama.cpp's samplers one by one, in the order of its ``common_sampler_init``.

    Those that are off cost nothing: llama.cpp makes empty ones of them.
    """
    if biases:
        array = (lib.llama_logit_bias * len(biases))(*biases.items())
        yield lib.llama_sampler_init_logit_bias(model.n_vocab, len(biases), array)
    if options.mirostat:
        yield lib.llama_sampler_init_temp(options.temperature)
        goal = seed, options.mirostat_tau, options.mirostat_eta
        if options.mirostat == 1:
            yield lib.llama_sampler_init_mirostat(model.n_vocab, *goal, _MIROSTAT_M)
        else:
            yield lib.llama_sampler_init_mirostat_v2(*goal)
        return
    # Greedy: the filters never drop the likeliest token, so they are spared.
    for name in ("penalties", "dry") if options.is_greedy else options.samplers or ():
        function, arguments = _CONSTRUCTORS[name]
        yield getattr(lib, function)(*arguments(model, options, seed))
    yield (
        lib.llama_sampler_init_greedy() if options.is_greedy else lib.llama_sampler_init_dist(seed)
    )


def _dry(model: NativeModel, options: Sampling, _: int) -> tuple[Any, ...]:
    breakers = [text.encode() for text in options.dry_sequence_breakers or ()]
    return (
        *(model.vocab, options.dry_multiplier, options.dry_base, options.dry_allowed_length),
        *(options.dry_penalty_last_n, (ctypes.c_char_p * len(breakers))(*breakers), len(breakers)),
    )


def _penalties(model: NativeModel, options: Sampling, _: int) -> tuple[Any, ...]:
    return (
        *(model.n_vocab, options.penalty_last_n, options.repeat_penalty),
        *(options.frequency_penalty, options.presence_penalty),
    )


#: What ``Sampling.samplers`` may name: the C function and its arguments.
_CONSTRUCTORS: dict[str, tuple[str, Callable[[NativeModel, Sampling, int], tuple[Any, ...]]]] = {
    "penalties": ("llama_sampler_init_penalties", _penalties),
    "dry": ("llama_sampler_init_dry", _dry),
    "top_n_sigma": ("llama_sampler_init_top_n_sigma", lambda _, o, __: (o.top_n_sigma,)),
    "top_k": ("llama_sampler_init_top_k", lambda _, o, __: (o.top_k,)),
    "typ_p": ("llama_sampler_init_typical", lambda _, o, __: (o.typical_p, _MIN_KEEP)),
    "top_p": ("llama_sampler_init_top_p", lambda _, o, __: (o.top_p, _MIN_KEEP)),
    "min_p": ("llama_sampler_init_min_p", lambda _, o, __: (o.min_p, _MIN_KEEP)),
    "xtc": (
        "llama_sampler_init_xtc",
        lambda _, o, seed: (o.xtc_probability, o.xtc_threshold, _MIN_KEEP, seed),
    ),
    "temperature": (
        "llama_sampler_init_temp_ext",
        lambda _, o, __: (o.temperature, o.dynatemp_range, o.dynatemp_exponent),
    ),
}


def _biases(model: NativeModel, options: Sampling) -> dict[int, float]:
    """Return what to add to the logit of each token, of those the model itself suppresses too."""
    biases = dict.fromkeys(model.suppressed_tokens, -math.inf)
    for token, bias in dict(options.logit_bias).items():
        for one in set(_tokens(model, token)):
            if one >= model.n_vocab:
                raise InvalidOptionError(
                    f"logit_bias: token {one} is not in the vocabulary of {model.n_vocab}",
                    hint="Use ids of this model's own tokenizer, or texts.",
                )
            biases[one] = biases.get(one, 0.0) + bias
    if sum(bias == -math.inf for bias in biases.values()) >= model.n_vocab:
        raise InvalidOptionError("logit_bias forbids every token", hint="Leave at least one.")
    return biases


def _tokens(model: NativeModel, token: int | str) -> list[int]:
    if isinstance(token, int):
        return [token]
    return model.tokenize(token, add_special=False, parse_special=True)
