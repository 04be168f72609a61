"""What a grammar needs to know of a model: its tokens' bytes and its own tokenisation."""

from __future__ import annotations

import functools
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

from ..errors import GrammarError, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence


class Vocabulary(Protocol):
    """A model's vocabulary; objects are told apart by identity and must allow weak references."""

    @property
    def n_vocab(self) -> int:
        """The number of tokens."""
        ...

    @property
    def end_tokens(self) -> Sequence[int]:
        """EOS first, then other tokens that end a generation."""
        ...

    def spelling(self, token: int) -> bytes:
        """Return the bytes of a token; of a control token those of its text."""
        ...

    def is_control(self, token: int) -> bool:
        """Tell whether a token is a control token, which stands for no text."""
        ...

    def encode(self, data: bytes) -> list[int]:
        """Return the model's own tokens for UTF-8 text, none added, no control tokens."""
        ...


class Tokens:
    """The tokens of one vocabulary as llguidance wants them; shared by all its grammars.

    It holds the vocabulary weakly: llguidance's object is no part of Python's garbage collection,
    so a strong reference from it to the model would never end.
    """

    is_tokenizer_wrapper = True  # what LLTokenizer looks for
    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        from llguidance import LLTokenizer

        self._vocabulary = weakref.ref(vocabulary)
        count = vocabulary.n_vocab
        self.tokens = [vocabulary.spelling(token) for token in range(count)]
        self.end_tokens: Sequence[int] = list(vocabulary.end_tokens)
        # End tokens that are no control tokens must not pass as their texts either.
        ends = set(self.end_tokens)
        self.special_token_ids = [
            token for token in range(count) if token in ends or vocabulary.is_control(token)
        ]
        self.eos_token_id = self.end_tokens[0] if self.end_tokens else None
        self._sentinel = self._find_sentinel(vocabulary)
        # Without slices (copies of the vocabulary for strings in JSON) it takes half the memory
        # and half the time to build; masks, which few tokens need, take 0.4 ms instead of 0.1.
        ends_or_none = list(self.end_tokens) or None
        self.tokenizer = LLTokenizer(self, eos_token=ends_or_none, slices=[])  # type: ignore[arg-type]

    def __call__(self, text: str) -> list[int]:
        """Return the model's own tokens of ``text``; llguidance calls it for forced text.

        It must not fail, Rust would panic: without the model, the longest spellings are taken.
        """
        data = text.encode("utf-8", errors="replace")
        try:
            vocabulary = self._vocabulary()
            if vocabulary is not None:
                before, skipped = self._sentinel
                tokens = vocabulary.encode(before + data)
                rest = tokens[len(skipped) :]
                if tokens[: len(skipped)] == skipped and self._spell(rest) == data:
                    return rest
        except Exception:  # noqa: BLE001, S110 - a closed model; the fall-back is right as well
            pass
        return self._longest(data)

    def _find_sentinel(self, vocabulary: Vocabulary) -> tuple[bytes, list[int]]:
        r"""Return text, and its tokens, that go before text so that no space is put before it.

        SentencePiece vocabularies do that at the beginning; \x02 is merged with nothing.
        """
        if self._spell(vocabulary.encode(b"a")) == b"a":
            return b"", []
        return b"\x02", vocabulary.encode(b"\x02")

    def _spell(self, tokens: Sequence[int]) -> bytes:
        return b"".join(self.tokens[token] for token in tokens)

    def spell_out(self, data: bytes) -> list[int] | None:
        """Return tokens that spell ``data``, the longest first; None if there are none."""
        tokens = self._longest(data)
        return tokens if self._spell(tokens) == data else None

    def find(self, which: int | str) -> int:
        """Return the token of that id, or whose text that is, a control token if there is one.

        Raises:
            GrammarError: there is none, or it ends a generation.
        """
        found: int | None = None
        if isinstance(which, int):
            found = which if which < len(self.tokens) else None
        else:
            data = which.encode()
            special = [*self.special_token_ids, *self.end_tokens]
            named = (token for token in special if self.tokens[token] == data)
            found = next(named, self._ids.get(data))
        if found is None or found in self.end_tokens:
            why = "the model has no token" if found is None else "a generation ends with"
            raise GrammarError(
                f"{why} {one_line(str(which))!r}",
                hint="Leave it out: a text that is complete may end."
                if found is not None
                else "Write the text in quotes, or use a model that has it.",
            )
        return found

    @functools.cached_property
    def _ids(self) -> dict[bytes, int]:
        special = {*self.special_token_ids, *self.end_tokens}
        spellings = enumerate(self.tokens)
        return {text: token for token, text in spellings if text and token not in special}

    @functools.cached_property
    def _width(self) -> int:
        return max(map(len, self._ids), default=0)

    def _longest(self, data: bytes) -> list[int]:
        tokens: list[int] = []
        start = 0
        while start < len(data):
            for end in range(min(len(data), start + self._width), start, -1):
                token = self._ids.get(data[start:end])
                if token is not None:
                    tokens.append(token)
                    start = end
                    break
            else:
                break  # no token spells this byte: what follows cannot be forced
        return tokens


_built: weakref.WeakKeyDictionary[Vocabulary, Tokens] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def tokens_of(vocabulary: Vocabulary) -> Tokens:
    """Return the tokens of ``vocabulary``, built once for it (about 0.2 s for 49k tokens)."""
    with _lock:
        tokens = _built.get(vocabulary)
        if tokens is None:
            tokens = _built[vocabulary] = Tokens(vocabulary)
        return tokens
