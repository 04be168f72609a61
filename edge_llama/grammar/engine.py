"""Builds llguidance's matcher from a grammar text so that no fault of Rust gets out."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ..errors import GrammarError, one_line

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

#: Rules that lead to each other are compiled recursively; bounds.MAX_RULES of them fit.
_STACK = 32 * 1024 * 1024
_lock = threading.Lock()
_NOTHING = "no text fits it"


def build_engine(text: str, tokenizer: LLTokenizer) -> LLMatcher:
    """Return a matcher for ``text``, LarkText's.

    Raises:
        GrammarError: llguidance refuses the grammar, also by a panic, or nothing fits it.
    """
    found: list[LLMatcher | str] = []

    def work() -> None:
        found.append(_build(text, tokenizer))

    with _lock:  # the stack size is one setting of the process
        before = threading.stack_size(_STACK)
        try:
            thread = threading.Thread(target=work, name="edge-llama-grammar")
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
    engine = found[0]
    if isinstance(engine, str):
        raise GrammarError(
            f"the grammar cannot be used: {engine}",
            hint="See docs/grammars.md for what a grammar may contain.",
        )
    return engine


def reason(message: str) -> str:
    """Return what llguidance says went wrong, in a line."""
    if message.startswith("NoExtension"):
        return _NOTHING
    return one_line(message.partition("<backtrace>")[0].partition("<non-verbose/>")[0].strip())


def _build(text: str, tokenizer: LLTokenizer) -> LLMatcher | str:
    from llguidance import LLMatcher, LLParserLimits  # here: a process that only asks needs none

    limits = LLParserLimits(
        verbose_errors=False,
        max_lexer_states=50_000,
        max_items_in_row=5000,
        initial_lexer_fuel=4_000_000,
        step_lexer_fuel=500_000,
    )
    try:
        engine = LLMatcher(tokenizer, text, log_level=0, limits=limits)
        if not engine.is_error():
            stuck = not engine.is_accepting() and (
                engine.is_stopped() or not any(engine.compute_bitmask())
            )
            if stuck and not engine.is_error():
                return _NOTHING
        return reason(engine.get_error()) if engine.is_error() else engine
    except BaseException as error:  # noqa: BLE001 - a Rust panic is no Exception
        return one_line(f"{type(error).__name__}: {error}")
