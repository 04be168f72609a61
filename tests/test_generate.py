"""One generation at a time, on a fake decoder and a byte vocabulary: its rules, without weights."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from fakes import END, Bench, FakeDecoder, Ruled, Script, request

from edge_llama.detokenize import TextDecoder
from edge_llama.stops import StopMatcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_llama.generate import Reply


def run(
    answer: bytes,
    *,
    prompt: Sequence[int] = (1, 2, 3),
    bench: Bench | None = None,
    stop: tuple[str, ...] = (),
    max_tokens: int | None = None,
) -> Reply:
    """Let a model say ``answer``."""
    bench = bench or Bench(FakeDecoder())
    asked = request(prompt, stop=stop, max_tokens=max_tokens)
    return bench.one(asked, make_sampler=lambda: Script(iter([*answer, END])))


def test_text_and_counts() -> None:
    reply = run(b"hello")
    assert (reply.text, reply.finish_reason) == ("hello", "stop")
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens) == (3, 5, 0)
    assert reply.context_tokens == 3 + 5


def test_characters_are_never_split() -> None:
    text = "naïve 東京 🙂"
    bench = Bench(FakeDecoder())
    client = bench.add(request([1, 2, 3]), make_sampler=lambda: Script(iter([*text.encode(), END])))
    bench.run()
    assert client.reply.text == text
    assert all("\ufffd" not in part for part in client.texts)


def test_a_character_cut_off_at_the_end_is_replaced_not_lost() -> None:
    assert run("a🙂".encode()[:-1]).text == "a\ufffd"


@pytest.mark.parametrize("stop", ["END", "E", "\n\n", "東京", "🙂!"])
@pytest.mark.parametrize("before", ["", "text ", "EN", "東", "🙂 "])
def test_stop_strings_across_tokens(stop: str, before: str) -> None:
    reply = run((before + stop + " and more").encode(), stop=(stop,))
    assert reply.text == (before + stop).split(stop)[0]
    assert reply.finish_reason == "stop"


def test_what_looked_like_a_stop_string_is_not_lost() -> None:
    assert run(b"an EN", stop=("END",)).text == "an EN"


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
    reply = run(b"hello", max_tokens=2)
    assert (reply.text, reply.finish_reason) == ("he", "length")


def test_a_full_context_ends_the_answer_and_says_so() -> None:
    reply = run(b"hello world", bench=Bench(FakeDecoder(n_ctx=6)))
    assert (reply.text, reply.finish_reason, reply.context_tokens) == ("hell", "context", 6)


def test_the_common_prefix_is_not_computed_again() -> None:
    decoder = FakeDecoder(n_ctx=200)
    bench = Bench(decoder)
    run(b"ab", prompt=range(50), bench=bench)
    before = decoder.decoded
    again = run(b"cd", prompt=[*range(50), *b"ab", 9, 9], bench=bench)
    assert again.cached_tokens == 52
    assert decoder.decoded - before == 2 + 2  # the two new prompt tokens and the answer


def test_a_diverging_prompt_keeps_what_is_common() -> None:
    decoder = FakeDecoder()
    bench = Bench(decoder)
    run(b"", prompt=[1, 2, 3, 4, 5], bench=bench)
    assert run(b"", prompt=[1, 2, 9], bench=bench).cached_tokens == 2
    assert [cell.token for cell in decoder.of(0)] == [1, 2, 9]


def test_the_same_prompt_still_computes_its_last_token() -> None:
    bench = Bench(FakeDecoder())
    run(b"", prompt=[1, 2, 3], bench=bench)
    assert run(b"", prompt=[1, 2, 3], bench=bench).cached_tokens == 2


def ruled(sampler: Ruled, decoder: FakeDecoder, **options: Any) -> Reply:
    return Bench(decoder).one(request([1, 2, 3], **options), make_sampler=lambda: sampler)


def test_what_a_grammar_forces_is_computed_in_one_batch() -> None:
    decoder = FakeDecoder(n_batch=16)
    sampler = Ruled(b'A", "age": ', b"7}.", begins=b'{"name": "')
    reply = ruled(sampler, decoder)
    assert (reply.text, reply.finish_reason) == ('{"name": "A", "age": 7}.', "stop")
    assert (sampler.steps, len(decoder.batches)) == (2, 2)
    assert (reply.prompt_tokens, reply.completion_tokens) == (3, 24)
    assert decoder.decoded == 3 + 24 - 3  # nothing needs what comes last


def test_an_answer_that_is_forced_whole_needs_no_model() -> None:
    decoder = FakeDecoder()
    reply = ruled(Ruled(begins=b"yes."), decoder)
    assert (reply.text, reply.finish_reason, decoder.decoded) == ("yes.", "stop", 0)
    assert reply.decode_seconds == reply.tokens_per_second == 0


@pytest.mark.parametrize(
    ("limit", "reason"),
    [(1, "incomplete"), (4, "incomplete"), (5, "length"), (6, "incomplete"), (8, "stop")],
)
def test_a_limit_inside_the_structure_has_a_reason_of_its_own(limit: int, reason: str) -> None:
    reply = ruled(Ruled(b"c", b".", b"def", begins=b"ab!"), FakeDecoder(), max_tokens=limit)
    assert (reply.text, reply.finish_reason) == ("ab!c.def"[:limit], reason)


def test_a_stop_string_may_end_what_is_forced() -> None:
    reply = ruled(Ruled(b"cdef", b"g", begins=b"ab"), FakeDecoder(), stop=("bcd",))
    assert (reply.text, reply.finish_reason) == ("a", "stop")


def test_the_end_may_be_forced() -> None:
    class Ending(Script):
        def sample(self, index: int) -> Sequence[int]:
            return [*super().sample(index), 98, END]

    reply = Bench(FakeDecoder()).one(request([1]), make_sampler=lambda: Ending(iter([97])))
    assert (reply.text, reply.finish_reason, reply.completion_tokens) == ("ab", "stop", 2)


def test_decoder_holds_incomplete_bytes_back() -> None:
    decoder = TextDecoder()
    assert [decoder.push(bytes([byte])) for byte in "é".encode()] == ["", "é"]
    assert decoder.push(b"\xff") == "\ufffd"
    assert decoder.finish() == ""
