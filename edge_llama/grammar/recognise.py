"""Whether a text fits a grammar, found out without a model: with a vocabulary of single bytes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ..errors import GrammarError, IncompleteError, InvalidOutputError, one_line
from .engine import build_engine
from .lark import LarkText

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llguidance import LLMatcher, LLTokenizer

    from .regular import Regular
    from .source import Source


class _NoTokens:
    end_tokens: Sequence[int] = ()

    def find(self, which: int | str) -> int:
        raise GrammarError(
            f"{one_line(str(which))} is a token of a model",
            hint="Such a grammar needs a vocabulary.",
        )


@functools.lru_cache(maxsize=1)
def byte_tokenizer() -> LLTokenizer:
    """Return a vocabulary in which token N is byte N."""
    from llguidance import LLTokenizer

    return LLTokenizer("byte")


def checked_text(source: Source, text: str) -> str:
    """Return ``text`` if ``source`` fits it.

    Raises:
        IncompleteError: more would have to come. InvalidOutputError: it does not fit.
    """
    if not source.checkable:
        return text  # tokens it names leave no trace in a text
    data = list(text.encode("utf-8", errors="surrogatepass"))
    engine = byte_engine(source)
    taken = engine.try_consume_tokens(data)
    if taken < len(data):
        place = bytes(data[:taken]).decode("utf-8", errors="ignore")
        raise InvalidOutputError(
            f"the text does not fit its grammar from character {len(place) + 1} on: "
            f"{one_line(text[len(place) :], 40)!r}",
            hint="Generate it with this grammar, or correct the text.",
            text=text,
        )
    if not engine.is_accepting():
        raise incomplete(text)
    return text


def build_check(body: str) -> LLMatcher:
    """Return an engine for one Lark terminal.

    Raises:
        GrammarError: it is malformed, or no text fits it.
    """
    lark = LarkText(_NoTokens())
    return build_engine(lark.serialize(lark.terminal(body)), byte_tokenizer())


def fits(language: Regular, text: str) -> bool:
    """Tell whether ``text`` belongs to a language."""
    engine = _language_engine(language).deep_copy()
    data = list(text.encode("utf-8", errors="surrogatepass"))
    return engine.try_consume_tokens(data) == len(data) and engine.is_accepting()


@functools.lru_cache(maxsize=128)
def _language_engine(language: Regular) -> LLMatcher:
    return build_check(f"/{language.pattern()}/")


def incomplete(text: str) -> IncompleteError:
    """Return the error for a text that ends too early."""
    return IncompleteError(
        f"the text ends inside the structure its grammar asks for: {one_line(text[-40:])!r}",
        hint="Allow more tokens (max_tokens).",
        text=text,
    )


def ends_of(source: Source, text: str, start: int) -> list[int]:
    """Return the places where a part of ``text`` from ``start`` on may end to fit ``source``."""
    engine = byte_engine(source)
    found = [start] if engine.is_accepting() else []
    for place in range(start, len(text)):
        data = list(text[place].encode("utf-8", errors="surrogatepass"))
        if engine.try_consume_tokens(data) < len(data):
            break
        if engine.is_accepting():
            found.append(place + 1)
    return found


def byte_engine(source: Source) -> LLMatcher:
    """Return a new engine for the bytes of a text."""
    return _engine(source).deep_copy()


@functools.lru_cache(maxsize=32)
def _engine(source: Source) -> LLMatcher:
    lark = LarkText(_NoTokens())
    return build_engine(lark.serialize(source.lower(lark)), byte_tokenizer())
