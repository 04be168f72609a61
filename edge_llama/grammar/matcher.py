"""One generation's way through a grammar: which token may come, which must, whether it may end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import GrammarError, StateError
from .engine import reason
from .marker import MarkerScan

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from llguidance import LLMatcher

    from .compiled import CompiledGrammar


class Matcher:
    """The state of one generation; for one thread at a time. Made by ``CompiledGrammar.matcher``.

    Every method raises GrammarError when the grammar exceeds llguidance's bounds on work per step,
    and StateError once the text has ended.
    """

    def __init__(self, compiled: CompiledGrammar, engine: LLMatcher) -> None:
        self._compiled = compiled
        self._tokens = compiled.tokens
        self._vocabulary = compiled.vocabulary  # alive as long as something is generated
        self._ends = frozenset(compiled.tokens.end_tokens)
        self._engine = engine
        self._scan = None if compiled.marker is None else MarkerScan(compiled.marker)
        self._ended = False
        self._bits: npt.NDArray[np.int32] | None = None

    @property
    def in_structure(self) -> bool:
        """Whether the grammar has begun: False before the marker of ``Grammar.after``."""
        return self._scan is None

    @property
    def may_end(self) -> bool:
        """Whether the text so far is complete."""
        if self._scan is not None:
            return False
        return self._checked(self._engine.is_accepting())

    @property
    def must_end(self) -> bool:
        """Whether nothing can follow but the end."""
        if self._ended:
            return True
        return self._scan is None and self._checked(self._engine.is_stopped())

    def allows(self, token: int) -> bool:
        """Tell whether ``token`` may come next; an end token may where the text may end."""
        if self._ended:
            return False
        if self._scan is not None:
            return token not in self._ends and self._allows_free(token)
        if token in self._ends and self._engine.is_accepting():
            return self._checked(value=True)
        # No _checked: a matcher in error allows nothing here and is found out by mask or push;
        # only for the first end token it would say 1.
        return self._engine.validate_tokens([token]) == 1 and not self._engine.is_error()

    def push(self, tokens: Sequence[int]) -> None:
        """Consume tokens that were chosen or forced, end tokens too.

        Raises:
            GrammarError: one of them is not allowed where it stands.
        """
        for index, token in enumerate(tokens):
            if self._ended:
                raise StateError("the text has ended", hint="Push nothing after an end token.")
            if self._scan is not None:
                if token in self._ends:
                    raise self._refused(token)
                rest = self._scan.push(self._tokens.tokens[token])
                if rest is not None:
                    self._scan = None
                    self._consume(self._tokens.spell_out(rest) or [])
            elif token in self._ends and self._engine.is_accepting():
                self._ended = True
            else:
                # The usual case in one call; an end token inside is found by its place.
                run = [token]
                for later in tokens[index + 1 :]:
                    if later in self._ends:
                        break
                    run.append(later)
                self._consume(run)
                if len(run) > 1:
                    self.push(tokens[index + len(run) :])
                    return

    def forced(self) -> list[int]:
        """Return the tokens that must come now, in the model's own tokenisation; maybe none.

        They are not consumed. What could be tokenised otherwise together with what follows is
        left out (llguidance, docs/fast_forward.md).
        """
        if self._scan is not None or self._ended:
            return []
        forced = self._engine.compute_ff_tokens()
        if not forced:
            self._checked(value=True)
        return forced

    def mask(self, logits: npt.NDArray[np.float32]) -> None:
        """Set the logits, float32 ``[n_vocab]``, of what may not come next to -inf, in place."""
        if self._scan is not None:
            logits[list(self._ends)] = -np.inf
            for token in self._compiled.overshooting:
                if not self._allows_free(token):
                    logits[token] = -np.inf
            return
        if self._bits is None:
            self._bits = np.zeros((len(self._tokens.tokens) + 31) // 32, dtype=np.int32)
        bits = self._bits
        self._engine.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        self._checked(value=True)
        allowed = np.unpackbits(bits.view(np.uint8), bitorder="little")[: len(logits)]
        if self._engine.is_accepting():
            allowed[list(self._ends)] = 1
        np.copyto(logits, -np.inf, where=allowed == 0)

    def _allows_free(self, token: int) -> bool:
        assert self._scan is not None  # noqa: S101 - the callers ask before
        rest = self._scan.peek(self._tokens.tokens[token])
        if not rest:
            return True
        tokens = self._tokens.spell_out(rest)
        return tokens is not None and self._engine.validate_tokens(tokens) == len(tokens)

    def _consume(self, tokens: list[int]) -> None:
        if not tokens:
            return
        if not self._engine.consume_tokens(tokens):
            why = reason(self._engine.get_error())
            raise GrammarError(
                f"the text does not go on as the grammar asks: {why}",
                hint="Push only tokens that allows() accepted; bound repeats if it is too complex.",
            )

    def _refused(self, token: int) -> GrammarError:
        return GrammarError(
            f"token {token} may not come here", hint="Push only tokens that allows() accepted."
        )

    def _checked(self, value: bool) -> bool:  # noqa: FBT001 - what the engine just said
        """Return ``value``, unless the engine has failed: then it stays in error for good."""
        if self._engine.is_error():
            why = reason(self._engine.get_error())
            raise GrammarError(
                f"the text cannot go on as the grammar asks: {why}",
                hint="Simplify it (bound repeats, avoid ambiguity), or use a model that has tokens "
                "for its characters.",
            )
        return value
