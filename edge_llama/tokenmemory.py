"""The tokens of the latest texts: a conversation is written down anew for every turn."""

from __future__ import annotations

import re
import threading
from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable


_Value = TypeVar("_Value")

#: Characters of text whose tokens are kept.
_MAX_CHARS = 2**20


class Tokenizer(Protocol):
    """What tokenising needs of a model."""

    adds_bos: bool

    @property
    def longest_piece(self) -> int | None:
        """Bytes of text that a token stands for at most; None if the tokenizer may drop some."""
        ...

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Turn text into token ids."""
        ...

    def special_texts(self) -> dict[int, str]:
        """Return the texts of all control tokens."""
        ...


class Latest(Generic[_Value]):
    """Values by text, up to ``max_chars`` of it; the least recently used go first. Thread-safe."""

    def __init__(self, max_chars: int) -> None:
        self._max_chars, self._n_chars = max_chars, 0
        self._values: OrderedDict[str, _Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, text: str, compute: Callable[[str], _Value]) -> _Value:
        """Return the value of ``text``, computed if it is not there."""
        with self._lock:
            if text in self._values:
                self._values.move_to_end(text)
                return self._values[text]
        value = compute(text)
        with self._lock:
            if text not in self._values:
                self._values[text] = value
                self._n_chars += len(text)
            while self._n_chars > self._max_chars:
                self._n_chars -= len(self._values.popitem(last=False)[0])
        return value


class TokenMemory:
    """Tokenises with ``tokenizer``, each part of a text once.

    ``cuts`` are texts after which a text may be divided, see :mod:`edge_llama.cuts`.
    """

    def __init__(self, tokenizer: Tokenizer, cuts: tuple[str, ...]) -> None:
        self.tokenizer = tokenizer
        self._cut = re.compile("|".join(map(re.escape, cuts))) if cuts else None
        self._parts: Latest[array[int]] = Latest(_MAX_CHARS)
        self._forging: Latest[bool] = Latest(_MAX_CHARS)

    def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        """Return the tokens of a text in which texts of control tokens count as those tokens.

        ``add_special`` adds BOS as the model wants it.
        """
        if self._cut is None:
            return self.tokenizer.tokenize(text, add_special=add_special, parse_special=True)
        tokens = self.tokenizer.tokenize("", add_special=add_special, parse_special=True)
        start = 0
        for end in [*(match.end() for match in self._cut.finditer(text)), len(text)]:
            if start < end:
                tokens += self._parts.get(text[start:end], self._tokens)
            start = end
        return tokens

    def _tokens(self, part: str) -> array[int]:
        return array("i", self.tokenizer.tokenize(part, add_special=False, parse_special=True))

    def has_special(self, text: str) -> bool:
        """Tell whether there are texts of control tokens in ``text``."""
        return self._forging.get(text, self._differs)

    def _differs(self, text: str) -> bool:
        # Cheaper than a search for every control token, and exactly what the tokenizer would do.
        plain = self.tokenizer.tokenize(text, add_special=False, parse_special=False)
        return plain != list(self._tokens(text))
