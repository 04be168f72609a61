"""The token loop with a fake decoder and a byte vocabulary: its rules, without weights."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from edge_llama import ContextOverflowError, InvalidOptionError
from edge_llama.detokenize import TextDecoder
from edge_llama.generate import Generation, Request
from edge_llama.session import Session
from edge_llama.stops import StopMatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

END = 256


class FakeDecoder:
    """Remembers what it was asked to decode, as a cache would."""

    def __init__(self, n_ctx: int = 64, n_batch: int = 8) -> None:
        self.n_ctx, self.n_batch = n_ctx, n_batch
        self.cache: list[int] = []
        self.decoded = 0
        self.abort_after: int | None = None

    def decode(self, tokens: Sequence[int], position: int) -> bool:
        assert position == len(self.cache), "a gap in the positions"
        assert 0 < len(tokens) <= self.n_batch, "a batch llama.cpp would abort on"
        assert position + len(tokens) <= self.n_ctx
        if self.abort_after is not None and self.decoded >= self.abort_after:
            return False
        self.cache += tokens
        self.decoded += len(tokens)
        return True

    def truncate(self, position: int) -> None:
        del self.cache[position:]


class ByteVocabulary:
    def piece(self, token: int) -> bytes:
        return bytes([token])

    def is_end(self, token: int) -> bool:
        return token == END


def run(
    answer: bytes,
    *,
    prompt: Sequence[int] = (1, 2, 3),
    session: Session | None = None,
    stop: tuple[str, ...] = (),
    max_tokens: int | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Generation:
    tokens = iter([*answer, END])
    return Generation(
        session or Session(FakeDecoder()),
        ByteVocabulary(),
        Request(prompt=list(prompt), stop=stop, max_tokens=max_tokens, seed=0),
        sample=lambda: next(tokens),
        cancelled=cancelled,
    )


def test_text_and_counts() -> None:
    generation = run(b"hello")
    assert "".join(generation) == "hello"
    reply = generation.reply
    assert (reply.text, reply.finish_reason) == ("hello", "stop")
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens) == (3, 5, 0)
    assert reply.context_tokens == 3 + 5


def test_characters_are_never_split() -> None:
    text = "naïve 東京 🙂"
    generation = run(text.encode())
    parts = list(generation)
    assert "".join(parts) == text
    assert all("\ufffd" not in part for part in parts)


def test_a_character_cut_off_at_the_end_is_replaced_not_lost() -> None:
    generation = run("a🙂".encode()[:-1])
    assert "".join(generation) == "a\ufffd"


@pytest.mark.parametrize("stop", ["END", "E", "\n\n", "東京", "🙂!"])
@pytest.mark.parametrize("before", ["", "text ", "EN", "東", "🙂 "])
def test_stop_strings_across_tokens(stop: str, before: str) -> None:
    generation = run((before + stop + " and more").encode(), stop=(stop,))
    text = "".join(generation)
    assert text == (before + stop).split(stop)[0]
    assert generation.reply.finish_reason == "stop"
    assert generation.reply.text == text


def test_what_looked_like_a_stop_string_is_not_lost() -> None:
    assert "".join(run(b"an EN", stop=("END",))) == "an EN"


def test_every_split_of_a_text_gives_the_same_stop() -> None:
    text, stops = "abcabcabd-xyz", ("abcabd", "xy")
    for cuts in itertools.product([False, True], repeat=len(text) - 1):
        matcher, shown, part = StopMatcher(stops), "", ""
        for i, character in enumerate(text):
            part += character
            if i == len(text) - 1 or cuts[i]:
                shown += matcher.push(part)
                part = ""
        assert shown + matcher.finish() == "abc"
        assert matcher.stopped


def test_max_tokens() -> None:
    generation = run(b"hello", max_tokens=2)
    assert "".join(generation) == "he"
    assert generation.reply.finish_reason == "length"


def test_a_full_context_ends_the_answer_and_says_so() -> None:
    session = Session(FakeDecoder(n_ctx=6))
    generation = run(b"hello world", session=session)
    assert "".join(generation) == "hell"
    assert generation.reply.finish_reason == "context"


def test_a_prompt_that_does_not_fit_is_refused_with_numbers() -> None:
    session = Session(FakeDecoder(n_ctx=6))
    with pytest.raises(ContextOverflowError) as caught:
        list(run(b"x", prompt=range(6), session=session))
    assert (caught.value.needed, caught.value.available) == (7, 6)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(InvalidOptionError):
        run(b"x", prompt=())


def test_the_common_prefix_is_not_computed_again() -> None:
    decoder = FakeDecoder(n_ctx=200)
    session = Session(decoder)
    list(run(b"ab", prompt=range(50), session=session))
    before = decoder.decoded
    again = run(b"cd", prompt=[*range(50), *b"ab", 9, 9], session=session)
    list(again)
    assert again.reply.cached_tokens == 52
    assert decoder.decoded - before == 2 + 2  # the two new prompt tokens and the answer
    assert decoder.cache == session.tokens


def test_a_diverging_prompt_keeps_what_is_common() -> None:
    decoder = FakeDecoder()
    session = Session(decoder)
    list(run(b"", prompt=[1, 2, 3, 4, 5], session=session))
    again = run(b"", prompt=[1, 2, 9], session=session)
    list(again)
    assert again.reply.cached_tokens == 2
    assert decoder.cache == [1, 2, 9]


def test_the_same_prompt_still_computes_its_last_token() -> None:
    session = Session(FakeDecoder())
    list(run(b"", prompt=[1, 2, 3], session=session))
    again = run(b"", prompt=[1, 2, 3], session=session)
    list(again)
    assert again.reply.cached_tokens == 2


def test_cancel_while_generating() -> None:
    asked = itertools.count()
    generation = run(b"hello world", cancelled=lambda: next(asked) >= 4)
    text = "".join(generation)
    assert 0 < len(text) < 11
    assert generation.reply.finish_reason == "cancelled"


def test_abort_in_the_prompt_keeps_the_cache_consistent() -> None:
    decoder = FakeDecoder(n_ctx=200)
    decoder.abort_after = 16
    session = Session(decoder)
    generation = run(b"hello", prompt=range(50), session=session)
    assert not list(generation)
    assert generation.reply.finish_reason == "cancelled"
    assert session.tokens == decoder.cache == list(range(16))
    decoder.abort_after = None
    again = run(b"hello", prompt=range(50), session=session)
    assert "".join(again) == "hello"
    assert again.reply.cached_tokens == 16


def test_decoder_holds_incomplete_bytes_back() -> None:
    decoder = TextDecoder()
    assert [decoder.push(bytes([byte])) for byte in "é".encode()] == ["", "é"]
    assert decoder.push(b"\xff") == "\ufffd"
    assert decoder.finish() == ""
