"""How tokens are chosen: each option declared once, here, with its range, source and default.

The names, the order and the defaults are those of llama.cpp's ``common/sampling.cpp``.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .rules import Biases, Integer, Names, Number, OneOf, Rule, Texts, check, option

logger = logging.getLogger(__name__)

#: The order in which the samplers change the candidates, unless ``samplers`` says otherwise.
DEFAULT_ORDER = (
    *("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc"),
    "temperature",
)
_NAMES = {name.replace("_", ""): name for name in DEFAULT_ORDER} | {
    "nucleus": "top_p",
    "temp": "temperature",
    "typ": "typ_p",
}

#: Tokens, by id or by text, and what is added to their logits.
LogitBias = Mapping[int | str, float] | tuple[tuple[int | str, float], ...]

_CHOICE, _FILTERS, _REPETITION, _OUTPUT = (
    "Sampling: temperature and seed",
    "Sampling: filters",
    "Sampling: repetition",
    "Output",
)


def _choice(fallback: Any, rule: Rule, group: str, description: str, key: str | None = None) -> Any:
    """Declare a field whose default the model may set, by ``general.sampling.<key>``."""
    return option(None, rule, description, group=group, fallback=fallback, key=key)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen and when to end. Immutable; a wrong value is an InvalidOptionError.

    None leaves a choice to the model, whose file may hold defaults (``general.sampling.*`` in
    GGUF), and where it holds none to llama.cpp's default. The samplers apply in llama.cpp's order
    (:data:`DEFAULT_ORDER`), after ``logit_bias``; for the same file, prompt, settings and seed
    the tokens are those of ``llama-completion``. With mirostat only bias and temperature apply.
    """

    #: Divides the logits; 1 leaves them as they are.
    temperature: float | None = _choice(
        0.8, Number(0), _CHOICE, "0 is greedy, higher is more varied.", "temp"
    )
    #: Dynamic temperature, llama.cpp pull request 4972: from temperature - range to
    #: temperature + range, with the candidates' entropy relative to its maximum.
    dynatemp_range: float | None = _choice(
        0.0, Number(0), _CHOICE, "Let the temperature vary by this with the entropy; 0 is off."
    )
    dynatemp_exponent: float | None = _choice(
        1.0, Number(0), _CHOICE, "How the entropy maps into that range; 1 is linear."
    )
    #: Mirostat (Basu et al., arXiv 2007.14966) keeps the text's surprise, in bits, near tau.
    mirostat: int | None = _choice(
        0,
        OneOf((0, 1, 2)),
        _CHOICE,
        "Mirostat 1 or 2 in place of the filters; 0 is off.",
        "mirostat",
    )
    mirostat_tau: float | None = _choice(
        5.0, Number(0), _CHOICE, "Mirostat's target surprise in bits per token.", "mirostat_tau"
    )
    mirostat_eta: float | None = _choice(
        0.1, Number(0), _CHOICE, "Mirostat's learning rate; 0 never adapts.", "mirostat_eta"
    )
    seed: int | None = option(
        None,
        Integer(0, 2**32 - 2),  # llama.cpp draws a seed of its own for 2**32 - 1
        "Same seed, same text; by default a new one each time.",
        group=_CHOICE,
    )
    #: Top-k (Fan et al., arXiv 1805.04833).
    top_k: int | None = _choice(
        40, Integer(0), _FILTERS, "Keep the k most likely tokens; 0 keeps all.", "top_k"
    )
    #: Nucleus sampling (Holtzman et al., arXiv 1904.09751).
    top_p: float | None = _choice(
        0.95,
        Number(0, 1),
        _FILTERS,
        "Keep the likeliest tokens up to this probability; 1 keeps all.",
        "top_p",
    )
    #: Min-p (Nguyen et al., arXiv 2407.01082).
    min_p: float | None = _choice(
        0.05,
        Number(0, 1),
        _FILTERS,
        "Drop tokens below this fraction of the likeliest; 0 keeps all.",
        "min_p",
    )
    #: Locally typical sampling (Meister et al., arXiv 2202.00666).
    typical_p: float | None = _choice(
        1.0,
        Number(0, 1),
        _FILTERS,
        "Keep tokens of about average surprise up to this probability; 1 keeps all.",
    )
    #: Top-n-sigma (Tang et al., arXiv 2411.07641); llama.cpp writes off as -1.
    top_n_sigma: float | None = _choice(
        0.0,
        Number(0),
        _FILTERS,
        "Drop logits more than n standard deviations below the largest; 0 keeps all.",
    )
    #: Exclude Top Choices (p-e-w, oobabooga/text-generation-webui pull request 6335).
    xtc_probability: float | None = _choice(
        0.0,
        Number(0, 1),
        _FILTERS,
        "How often XTC drops all likely tokens but the least likely of them; 0 is never.",
        "xtc_probability",
    )
    xtc_threshold: float | None = _choice(
        0.1,
        Number(0, 1),
        _FILTERS,
        "Probability from which XTC calls a token likely; above 0.5 is off.",
        "xtc_threshold",
    )
    samplers: tuple[str, ...] | None = _choice(
        DEFAULT_ORDER,
        Names(DEFAULT_ORDER),
        _FILTERS,
        "Names of the samplers to apply, in this order; what is not named is off.",
        "sequence",
    )
    #: A text counts as its tokens, each of which gets the bias; texts of control tokens as those.
    #: Kept as a tuple of pairs, whatever was given.
    logit_bias: LogitBias = option(
        (), Biases(), "Add this to a token's logit; -inf forbids it.", group=_FILTERS
    )
    #: CTRL's repetition penalty (Keskar et al., arXiv 1909.05858); multiplies negative logits.
    repeat_penalty: float | None = _choice(
        1.0,
        Number(0, above=True),
        _REPETITION,
        "Divide the logits of recent tokens by this; 1 is off.",
        "penalty_repeat",
    )
    #: The next two are OpenAI's, over the last ``penalty_last_n`` tokens.
    frequency_penalty: float | None = _choice(
        0.0, Number(), _REPETITION, "Subtract this per earlier occurrence; 0 is off."
    )
    presence_penalty: float | None = _choice(
        0.0, Number(), _REPETITION, "Subtract this once if it occurred; 0 is off."
    )
    penalty_last_n: int | None = _choice(
        64,
        Integer(0, 65536),
        _REPETITION,
        "How many recent tokens, of prompt and answer, these penalties see; 0 is off.",
        "penalty_last_n",
    )
    #: Don't Repeat Yourself (p-e-w, oobabooga/text-generation-webui pull request 5677): subtracts
    #: multiplier * base ** (length of the repetition - allowed length).
    dry_multiplier: float | None = _choice(
        0.0, Number(0), _REPETITION, "Strength of DRY, against repeated sequences; 0 is off."
    )
    dry_base: float | None = _choice(
        1.75, Number(1), _REPETITION, "DRY's penalty grows by this factor per repeated token."
    )
    dry_allowed_length: int | None = _choice(
        2, Integer(1), _REPETITION, "Sequences up to this length may be repeated."
    )
    dry_penalty_last_n: int | None = _choice(
        64, Integer(0, 65536), _REPETITION, "How many recent tokens DRY sees; 0 is off."
    )
    dry_sequence_breakers: tuple[str, ...] | None = _choice(
        ("\n", ":", '"', "*"),
        Texts(count=32, nbytes=40),  # llama.cpp cuts longer ones
        _REPETITION,
        "A text that no repeated sequence crosses.",
    )
    max_tokens: int | None = option(
        None, Integer(1), "End after this many tokens; by default at the context.", group=_OUTPUT
    )
    stop: tuple[str, ...] = option(
        (), Texts(), "End before this text; may be given several times.", group=_OUTPUT
    )
    #: The tokens differ from those of step by step only where several spell the same text.
    jump_ahead: bool = option(
        True,  # noqa: FBT003 - a default
        OneOf((True, False)),
        "With a grammar, take what it forces in one step, and mask only what it refuses.",
        group=_OUTPUT,
    )
    logprobs: int | None = option(
        None,
        Integer(0, 100),
        "Report each token's log probability, and this many of the likeliest tokens'.",
        group=_OUTPUT,
    )

    def __post_init__(self) -> None:
        for name in ("stop", "samplers", "dry_sequence_breakers"):
            value: object = getattr(self, name)
            if isinstance(value, str | list):
                self._set(name, (value,) if isinstance(value, str) else tuple(value))
        if isinstance(self.samplers, tuple):
            self._set("samplers", tuple(_canonical(name) for name in self.samplers))
        if isinstance(self.logit_bias, Mapping):
            self._set("logit_bias", tuple(self.logit_bias.items()))
        check(self)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def resolve(self, metadata: Mapping[str, Any]) -> Sampling:
        """Return a copy without unmade choices: the model's where it has one, else llama.cpp's.

        ``metadata`` is a GGUF's. As in llama.cpp a number out of range counts as the nearest
        possible one; what cannot be read at all is passed over, with a warning in the log.
        """
        return dataclasses.replace(
            self,
            **{
                field.name: _model_value(field, metadata)
                for field in dataclasses.fields(self)
                if "fallback" in field.metadata and getattr(self, field.name) is None
            },
        )

    def candidate(self, number: int) -> Sampling:
        """Return the options of candidate ``number``: from 1 on with a seed of its own."""
        if self.seed is None:
            return self
        return dataclasses.replace(self, seed=(self.seed + number) % (2**32 - 1))

    @property
    def jumps(self) -> bool:
        """Whether what a grammar forces is taken unseen: nobody knows then how likely it was."""
        return self.jump_ahead and self.logprobs is None

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is always taken; of a resolved Sampling.

        Typical and XTC may drop that token even at temperature 0, and so may another order.
        """
        return (
            self.temperature == 0 == self.dynatemp_range
            and self.mirostat == 0
            and self.samplers == DEFAULT_ORDER
            and self.typical_p == 1
            and self.xtc_probability == 0
        )

    @property
    def history(self) -> int:
        """How many tokens before the next one the penalties look at; of a resolved Sampling."""
        penalised = self.repeat_penalty != 1 or self.frequency_penalty or self.presence_penalty
        return max(
            (self.penalty_last_n or 0) if penalised else 0,
            (self.dry_penalty_last_n or 0) if self.dry_multiplier else 0,
        )


def _canonical(name: object) -> object:
    """Return a sampler's name for any of llama.cpp's spellings (top-k, topk, nucleus)."""
    if not isinstance(name, str):
        return name
    return _NAMES.get(name.strip().lower().replace("-", "").replace("_", ""), name)


def _model_value(field: dataclasses.Field[Any], metadata: Mapping[str, Any]) -> Any:
    """Return what the model's file says about a field, else llama.cpp's default."""
    key = f"general.sampling.{field.metadata['key']}"
    value = metadata.get(key)
    if field.metadata["key"] is None or value is None:
        return field.metadata["fallback"]
    if field.name == "samplers":
        names = [_canonical(name) for name in str(value).split(";")]
        nearest: Any = tuple(name for name in names if name in DEFAULT_ORDER)
        dropped = len(nearest) < len(names)
    else:
        nearest = field.metadata["rule"].nearest(value)
        dropped = nearest is None
    if dropped:
        logger.warning("the model's %s = %r is not possible here", key, value)
    return field.metadata["fallback"] if nearest is None or nearest == () else nearest
