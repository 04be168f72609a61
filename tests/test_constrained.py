"""Grammars in the running engine, on real weights; what each grammar allows is tested elsewhere."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from endless import ENDLESS

from edge_llama import (
    Grammar,
    IncompleteError,
    InvalidOptionError,
    Model,
    ModelConfig,
    Sampling,
)
from edge_llama.decoder import Part
from edge_llama.grammar import compile_grammar
from edge_llama.native import NativeContext, NativeModel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.model

GREEDY = Sampling(temperature=0, max_tokens=60)
STEPWISE = Sampling(temperature=0, max_tokens=60, jump_ahead=False)
QUESTION = "Describe Alice, who is 31 and lives in Paris."
ALICE = Grammar.lark(r"""
    start: "{\"name\": \"" /[A-Z][a-z]{1,9}/ "\", \"age\": " /[1-9][0-9]?/ ", \"city\": \"" /[A-Z][a-z]{1,9}/ "\"}"
""")  # noqa: E501 - one rule


def masked_greedy(path: Path, prompt: list[int], grammar: Grammar) -> list[int]:
    """Return the likeliest allowed tokens one by one, with nothing of the engine."""
    config = ModelConfig(flash_attention="off")  # as plans choose on the CPU
    native = NativeModel(path, config)
    context = NativeContext(native, config, n_ctx=512)
    matcher = compile_grammar(grammar, native).matcher(forcing=False)
    tokens: list[int] = []
    coming, position = prompt, 0
    while not matcher.must_end:
        context.decode([Part(0, coming, position, wants_logits=True)])
        position += len(coming)
        logits = context.logits_at()
        matcher.mask(logits)
        token = int(logits.argmax())
        if native.is_end(token):
            break
        matcher.push([token])
        tokens.append(token)
        coming = [token]
    context.close()
    native.close()
    return tokens


def test_without_jumps_every_token_is_the_likeliest_allowed_one(
    model: Model, embedded: Path
) -> None:
    prompt = model.tokenize(QUESTION)
    reply = model.generate(prompt, grammar=ALICE, sampling=STEPWISE)
    assert list(reply.tokens) == masked_greedy(embedded, prompt, ALICE)
    assert reply.finish_reason == "stop"


class Counted:
    """Counts what a model computes while it is used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[int] = []
        decode = NativeContext.decode

        def counting(context: NativeContext, parts: list[Part]) -> bool:
            self.batches.append(sum(len(part.tokens) for part in parts))
            return decode(context, parts)

        monkeypatch.setattr(NativeContext, "decode", counting)


def test_jumps_save_decodes_and_give_valid_text(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    stepwise = model.generate(QUESTION, grammar=ALICE, sampling=STEPWISE)
    steps = len(counted.batches)
    assert steps >= stepwise.completion_tokens
    reply = model.generate(QUESTION, grammar=ALICE, sampling=GREEDY)
    assert len(counted.batches) - steps < steps / 2
    for one in (stepwise, reply):
        assert one.finish_reason == "stop"
        assert set(json.loads(one.text)) == {"name", "age", "city"}
        assert model.detokenize(one.tokens) == one.text
    # What is forced is tokenised as the model itself does, up to where the next text may join it.
    native = NativeModel(model.info.path, ModelConfig(), vocab_only=True)
    forced = compile_grammar(ALICE, native).matcher().forced()
    assert (
        forced == native.encode(b'{"name": "A')[: len(forced)] == list(reply.tokens[: len(forced)])
    )
    assert len(forced) > 1
    native.close()


def test_a_forced_answer_is_not_computed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    reply = model.generate("Say it.", grammar=Grammar.choice("Abracadabra!"))
    assert (reply.text, reply.parse(), counted.batches) == ("Abracadabra!", "Abracadabra!", [])


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.5},
        {"temperature": 1.0, "jump_ahead": False},
        {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
        {"repeat_penalty": 1.5, "presence_penalty": 1.0, "dry_multiplier": 1.0},
        {"mirostat": 2},
        {"mirostat": 1, "logit_bias": {"{": -5.0}},
        {"temperature": 0, "repeat_penalty": 1.3},
        {"logprobs": 2},
    ],
    ids=str,
)
def test_with_every_kind_of_sampling(model: Model, options: dict[str, object]) -> None:
    sampling = Sampling(**{"seed": 5, "max_tokens": 60, **options})  # type: ignore[arg-type]
    first, again = (
        model.generate(QUESTION, grammar=ALICE, sampling=sampling, n=1)[0] for _ in range(2)
    )
    assert set(json.loads(first.text)) == {"name", "age", "city"}
    assert (first.finish_reason, first.text) == ("stop", again.text)
    if sampling.logprobs is not None:
        assert [one.token for one in first.logprobs] == list(first.tokens)
        # The model's own view, of all tokens: the mask came later.
        assert all(len(one.top) == 2 and np.isfinite(one.logprob) for one in first.logprobs)
        assert any(one.top[0].token != one.token for one in first.logprobs)


def test_many_at_once_each_with_a_state_of_its_own(model: Model) -> None:
    sampling = Sampling(seed=3, max_tokens=60, temperature=1.2)
    replies = model.generate(QUESTION, grammar=ALICE, sampling=sampling, n=5)
    assert len({reply.text for reply in replies}) > 1
    results: dict[int, object] = {}

    def ask(number: int) -> None:
        grammar = Grammar.regex(f"{number}-[a-z]{{3}}") if number % 2 else ALICE
        results[number] = model.generate(QUESTION, grammar=grammar, sampling=sampling).text

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    free = model.generate("Tell me a story.", sampling=dataclasses.replace(ENDLESS, max_tokens=20))
    for thread in threads:
        thread.join()
    assert free.completion_tokens == 20
    for number, text in results.items():
        if number % 2:
            assert re.fullmatch(f"{number}-[a-z]{{3}}", str(text))
        else:
            assert set(json.loads(str(text))) == {"name", "age", "city"}
    for reply in [*replies, *model.generate_many(["A", "B"], grammar=ALICE, sampling=sampling)]:
        assert set(json.loads(reply.text)) == {"name", "age", "city"}


def test_a_limit_inside_the_structure_is_told_apart_and_cannot_be_parsed(model: Model) -> None:
    reply = model.generate(QUESTION, grammar=ALICE, sampling=Sampling(max_tokens=9, seed=1))
    assert reply.finish_reason == "incomplete"
    assert reply.text.startswith('{"name": "')
    with pytest.raises(IncompleteError, match="cut off") as caught:
        reply.parse()
    assert caught.value.text == reply.text
    assert "max_tokens" in caught.value.hint
    digits = Grammar.regex("[0-9]{3,40}")
    whole = model.generate("Count.", grammar=digits, sampling=Sampling(max_tokens=8, seed=1))
    assert whole.finish_reason == "length"
    assert whole.parse() == whole.text


def test_a_stop_string_or_a_cancel_inside_it_cannot_be_parsed_either(model: Model) -> None:
    stopped = model.generate(QUESTION, grammar=ALICE, sampling=Sampling(stop=('", "age',)))
    assert stopped.finish_reason == "stop"
    stream = model.stream(QUESTION, grammar=Grammar.regex("[a-z ]{2000}"))
    next(stream)
    stream.cancel()
    with pytest.raises(InvalidOptionError, match="free text"):
        model.generate("Hi", sampling=GREEDY).parse()
    for reply in (stopped, stream.reply):
        assert reply.text
        with pytest.raises(IncompleteError):
            reply.parse()


def test_the_structure_may_begin_after_free_text(model: Model) -> None:
    grammar = Grammar.choice("yes", "no").after("Answer: ")
    prompt = "Is the sky blue? Think first, then write a line that begins with Answer:"
    reply = model.generate(
        prompt, grammar=grammar, sampling=Sampling(seed=2, max_tokens=120, stop=("\n\n\n",))
    )
    if reply.finish_reason == "incomplete":  # it thought for too long
        with pytest.raises(IncompleteError):
            reply.parse()
    else:
        assert reply.parse() in {"yes", "no"}
        assert reply.text.endswith(reply.parse())


def test_in_a_conversation_one_answer_is_bound_and_the_next_is_not(model: Model) -> None:
    chat = model.chat()
    bound = chat.send("Is water wet?", grammar=Grammar.choice("yes", "no"), sampling=GREEDY)
    assert bound.parse() in {"yes", "no"}
    free = chat.send("Why?", sampling=GREEDY)
    assert free.grammar is None
    assert free.cached_tokens > 20  # of the first turn, with what was forced in it
    assert [message.content for message in chat.messages][1::2] == [bound.text, free.text]


@pytest.fixture(scope="module")
def small(embedded: Path) -> Iterator[Model]:
    with Model.open(embedded, n_ctx=128, n_parallel=2) as model:
        yield model


def test_a_structure_larger_than_the_context_shifts_like_other_text(small: Model) -> None:
    grammar = Grammar.regex("(ab12cd34[xy] ){40}end")
    cut = small.generate("Go.", grammar=grammar, sampling=Sampling(seed=1))
    assert cut.finish_reason == "context"
    with pytest.raises(IncompleteError):
        cut.parse()
    asked = Sampling(seed=1, max_tokens=700)
    reply = small.generate("Go.", grammar=grammar, sampling=asked, raw=True)
    assert re.fullmatch("(ab12cd34[xy] ){40}end", reply.parse())
    assert reply.completion_tokens > 128
    assert reply.dropped_tokens > 0
