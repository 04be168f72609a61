"""Strings of a schema as one lexeme: lengths, patterns and what is excluded, intersected."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import GrammarError
from ..recognise import build_check
from ..regular import Repeat, Seq, Text
from .languages import ANY_CHARACTER, finite, quoted

if TYPE_CHECKING:
    from .model import Strings


#: By how many endless languages are intersected: the automaton is their product with the length.
_LONGEST = {0: 10**6, 1: 10**6, 2: 200}


_MAX_ENDLESS = 6


def terminal(strings: Strings, longest: int) -> str:
    """Return the body of a Lark terminal; ``longest`` bounds what would not end."""
    high = strings.high
    if high is None and not any(map(finite, strings.within)):
        denied = sum(not finite(tree) for tree in strings.without)
        endless = len(strings.within) + denied + bool(denied)
        high = max(min(longest, _LONGEST.get(endless, 100)), strings.low)
    parts = []
    if high is not None or strings.low or not strings.within:
        inside = Repeat(ANY_CHARACTER, strings.low, high)
        parts.append(f"/{Seq((Text(chr(34)), inside, Text(chr(34)))).pattern()}/")
    parts += [f"/{quoted(tree).pattern()}/" for tree in strings.within]
    if strings.without:
        excluded = " | ".join(f"/{quoted(tree).pattern()}/" for tree in strings.without)
        parts.append(f"~({excluded})")
    return " & ".join(parts)


def exists(strings: Strings) -> bool:
    """Tell whether any string fits."""
    if sum(not finite(tree) for tree in (*strings.within, *strings.without)) > _MAX_ENDLESS:
        raise GrammarError("too many patterns", hint="Use one pattern that says it all.")
    limits = strings.low > 0 or strings.high is not None
    if len(strings.within) + len(strings.without) + limits < 2:
        return True
    return _exists(replace(strings, path=""))


@functools.lru_cache(maxsize=256)
def _exists(strings: Strings) -> bool:
    try:
        build_check(terminal(strings, 1000))
    except GrammarError as error:
        if "no text fits" in str(error):
            return False
        raise
    return True
