"""Helpers for tests of grammars: what they accept, and random walks through them."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge_llama.errors import GrammarError
from edge_llama.grammar import Grammar, compile_grammar

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from edge_llama.grammar import CompiledGrammar, Vocabulary


class ByteVocabulary:
    """Tokens 0 to 255 are the bytes; then a control token, two end tokens and some words."""

    words = (b"true", b'{"', b'": ', b"</think>", b"nk>\n\n{", b"ab", b'", "', b"er")
    control, eos, eot = 256, 257, 258
    end_tokens: Sequence[int] = (eos, eot)

    def __init__(self) -> None:
        names = [b"<|tool|>", b"<|end|>", b"<|turn|>"]
        self._spellings = [bytes([byte]) for byte in range(256)] + names + list(self.words)
        self.n_vocab = len(self._spellings)

    def spelling(self, token: int) -> bytes:
        return self._spellings[token]

    def is_control(self, token: int) -> bool:
        return token in {self.control, self.eos}  # some models' ends of turn are none

    def encode(self, data: bytes) -> list[int]:
        """The words from left to right where they stand, bytes elsewhere."""
        tokens, place = [], 0
        while place < len(data):
            word = next((w for w in self.words if data.startswith(w, place)), None)
            if word is None:
                tokens.append(data[place])
                place += 1
            else:
                tokens.append(259 + self.words.index(word))
                place += len(word)
        return tokens


BYTES = ByteVocabulary()


def accepts(grammar: Grammar, text: str, vocabulary: Vocabulary = BYTES) -> bool:
    """Push the text byte by byte as ``allows`` permits."""
    matcher = compile_grammar(grammar, vocabulary).matcher()
    for token in text.encode() if vocabulary is BYTES else vocabulary.encode(text.encode()):
        if not matcher.allows(token):
            return False
        matcher.push([token])
    return matcher.may_end


def check(grammar: Grammar, passing: Sequence[str] = (), failing: Sequence[str] = ()) -> None:
    for text in passing:
        assert accepts(grammar, text), f"refused: {text!r}"
    for text in failing:
        assert not accepts(grammar, text), f"accepted: {text!r}"


def refused(path: str | None, *args: Any, **options: Any) -> str:
    """A schema that is refused at ``path``; returns the message."""
    with pytest.raises(GrammarError) as caught:
        compile_grammar(Grammar.json_schema(*args, **options), BYTES)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    assert caught.value.path == path, str(caught.value)
    return str(caught.value)


def walk(
    compiled: CompiledGrammar,
    rng: np.random.Generator,
    limit: int = 300,
    favoured: bytes = b'"]}, :0123456789',
) -> str | None:
    """A random text of the grammar, by masks alone; None if it does not end in ``limit``."""
    matcher = compiled.matcher()
    tokens = compiled.tokens
    out = b""
    bias = np.zeros(len(tokens.tokens), np.float32)
    bias[[t for t, s in enumerate(tokens.tokens) if s and s[:1] in favoured]] = 1.5
    for _ in range(limit):
        if matcher.must_end:
            return out.decode()
        logits = rng.standard_normal(len(bias)).astype(np.float32) + bias
        logits[list(tokens.end_tokens)] += 3
        matcher.mask(logits)
        token = int(logits.argmax())
        assert logits[token] > -np.inf, f"stuck after {out!r}"
        assert matcher.allows(token), f"masked in, but not allowed: {token} after {out!r}"
        matcher.push([token])
        if token in tokens.end_tokens:
            return out.decode()
        out += tokens.tokens[token]
    return None


def orders(value: Any) -> Iterator[Any]:
    """A value with the keys of its objects, at the top, in every order."""
    if not isinstance(value, dict):
        yield value
        return
    for keys in itertools.permutations(value):
        yield {key: value[key] for key in keys}


def written(value: Any) -> list[str]:
    """The ways a value may be written."""
    return [json.dumps(one, ensure_ascii=False) for one in orders(value)]


def mutated(text: str, rng: random.Random) -> str:
    """One character removed, doubled or replaced."""
    if not text:
        return rng.choice("ab1{")
    place = rng.randrange(len(text))
    new = rng.choice(["", text[place] * 2, rng.choice('ab01 \n"{}[],:+-.x')])
    return text[:place] + new + text[place + 1 :]
