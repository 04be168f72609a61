"""A grammar, made ready for one vocabulary; cached, since both are used again and again."""

from __future__ import annotations

import functools
import threading
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING

from ..errors import StateError
from .engine import build_engine
from .marker import overshooting
from .matcher import Matcher
from .vocabulary import tokens_of

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from .grammar import Grammar
    from .vocabulary import Tokens, Vocabulary

#: Compiled grammars kept per vocabulary; the ones used last stay.
_KEPT = 64


class CompiledGrammar:
    """A grammar for one vocabulary; may be shared by threads. Made by :func:`compile_grammar`.

    It holds the vocabulary weakly: it is found through it.
    """

    def __init__(self, grammar: Grammar, vocabulary: Vocabulary) -> None:
        self.grammar = grammar
        self.tokens: Tokens = tokens_of(vocabulary)
        self.marker = None if grammar.marker is None else grammar.marker.encode()
        self._vocabulary = weakref.ref(vocabulary)
        self._lock = threading.Lock()
        self._engine = self._build(forcing=True)
        self._unforced: LLMatcher | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary; StateError once it is gone."""
        vocabulary = self._vocabulary()
        if vocabulary is None:
            raise StateError("the model of this grammar is gone", hint="Compile it for another.")
        return vocabulary

    def matcher(self, *, forcing: bool = True) -> Matcher:
        """Return a matcher at the beginning: one per generation (about 10 microseconds).

        Without ``forcing``, ``forced`` is always empty and masks are exactly what ``allows`` says:
        text that must come may then come in any tokens.
        """
        with self._lock:
            if forcing:
                return Matcher(self, self._engine.deep_copy())
            if self._unforced is None:
                self._unforced = self._build(forcing=False)
            return Matcher(self, self._unforced.deep_copy())

    def _build(self, *, forcing: bool) -> LLMatcher:
        text = self.grammar.lowered(self.tokens, forcing=forcing)
        return build_engine(text, self.tokens.tokenizer)

    @functools.cached_property
    def overshooting(self) -> list[int]:
        """Return the tokens that may end the marker and go on after it."""
        assert self.marker is not None  # noqa: S101 - only asked for with a marker
        return overshooting(self.marker, self.tokens.tokens)


_compiled: weakref.WeakKeyDictionary[Vocabulary, OrderedDict[Grammar, CompiledGrammar]]
_compiled = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def compile_grammar(grammar: Grammar, vocabulary: Vocabulary) -> CompiledGrammar:
    """Return ``grammar`` ready for ``vocabulary``; done once for both, from any thread.

    Raises:
        GrammarError: it is malformed, not supported, unsatisfiable or too large.
    """
    with _lock:
        kept = _compiled.setdefault(vocabulary, OrderedDict())
        compiled = kept.get(grammar)
        if compiled is not None:
            kept.move_to_end(grammar)
            return compiled
    compiled = CompiledGrammar(grammar, vocabulary)
    with _lock:
        compiled = kept.setdefault(grammar, compiled)
        while len(kept) > _KEPT:
            kept.popitem(last=False)
    return compiled
