"""Conversations that outgrow the context, under each policy, on a fake decoder."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from fakes import END, Bench, ByteVocabulary, FakeDecoder, Script, request

from edge_llama import (
    Chat,
    ContextOverflowError,
    InvalidOptionError,
    Message,
    Sampling,
    TemplateError,
)
from edge_llama.generate import Generation, Reply, Request
from edge_llama.overflow import ContextPolicy
from edge_llama.stream import Job, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edge_llama.config import Overflow
    from edge_llama.grammar import Grammar

BOS, STOP = 300, 301
ROLES = {"system": 302, "user": 303, "assistant": 304}


def chatml(messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
    """Each message between tokens of its own."""
    tokens = [BOS]
    for message in messages:
        tokens += [ROLES[message.role], *message.content.encode(), STOP]
    return [*tokens, ROLES["assistant"]] if add_generation_prompt else tokens


def alternating(messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
    """The system prompt is part of the first question; other orders of roles are refused."""
    messages = list(messages)
    if messages[0].role == "system":
        system = messages.pop(0)
        if not messages:
            raise TemplateError("a question is missing", hint="")
        messages[0] = Message("user", f"{system.content}\n\n{messages[0].content}")
    for i, message in enumerate(messages):
        if message.role != ("user", "assistant")[i % 2]:
            raise TemplateError("roles must alternate", hint="")
    return chatml(messages, add_generation_prompt=add_generation_prompt)


def picky(messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
    """Nothing but a question may come last."""
    if messages[-1].role != "user":
        raise TemplateError("a question is missing", hint="")
    return chatml(messages, add_generation_prompt=add_generation_prompt)


def conversation(*lengths: int, system: str = "Be brief.") -> list[Message]:
    """Questions and answers of so many characters each."""
    roles: list[Message] = [Message("system", system)] if system else []
    for i, length in enumerate(lengths):
        roles.append(Message("assistant" if i % 2 else "user", "xy"[i % 2] * length))
    return roles


class Talk:
    """A real Chat, whose answers come from a bench."""

    def __init__(self, overflow: Overflow, n_ctx: int, *, system: str = "") -> None:
        self.policy = ContextPolicy(overflow, n_ctx)
        self.decoder = FakeDecoder(n_ctx, min(n_ctx, 512))
        self.bench = Bench(self.decoder, parked_bytes=10**9)
        self.chat = Chat(self.answer, system=system)
        self.said: Iterator[int] = iter(())

    def answer(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        grammar: Grammar | None,
        on_reply: Callable[[Reply], None],
        dropped_turns: int,
    ) -> Stream:
        assert grammar is None
        self.prompt = self.policy.chat(messages, chatml, sampling, dropped_turns=dropped_turns)
        job = Job(self.prompt, sampling, on_reply=on_reply)
        wish = Request(prompt=self.prompt, max_tokens=sampling.max_tokens)
        said = self.said
        self.bench.scheduler.add(Generation(wish, ByteVocabulary(), job, lambda: Script(said)))
        return Stream(job, lambda: None)

    def say(self, question: str, answer: str, sampling: Sampling | None = None) -> Reply:
        self.said = iter([*answer.encode(), END])
        stream = self.chat.stream(question, sampling=sampling)
        self.bench.run()
        return stream.reply

    @property
    def whole(self) -> list[int]:
        """All that was ever said."""
        return chatml(self.chat.messages, add_generation_prompt=False)


@pytest.mark.parametrize(
    ("n_ctx", "question", "answer"), [(2048, 190, 8), (64, 11, 7), (61, 2, 30)]
)
def test_a_conversation_five_times_the_context_goes_on_and_is_never_read_again(
    n_ctx: int, question: int, answer: int
) -> None:
    rng = random.Random(question)
    talk = Talk("shift", n_ctx, system="Be brief.")
    system = chatml([Message("system", "Be brief.")], add_generation_prompt=False)
    dropped = 0
    while len(talk.whole) < 5 * n_ctx:
        decoded = talk.decoder.decoded
        said = "".join(rng.choices("abcdef", k=answer))
        reply = talk.say("q" * question, said)
        assert (reply.text, reply.finish_reason) == (said, "stop")
        # The end of the last turn, the new question and its frame, and the answer.
        assert talk.decoder.decoded - decoded <= 1 + (question + 3) + answer + len(system) * (
            dropped == 0
        )
        assert dropped <= reply.dropped_tokens
        dropped = reply.dropped_tokens
        assert reply.context_tokens == len(talk.whole) - 1 - dropped <= n_ctx
        cached = [cell.token for cell in talk.decoder.of(0)]
        assert cached[: len(system)] == system
        kept = len(cached) - len(system)
        assert cached[len(system) :] == talk.whole[:-1][-kept:]
    assert dropped > 3 * n_ctx
    assert talk.bench.store.nbytes == 0  # what is dropped is not worth a copy


def test_the_question_and_the_system_prompt_are_never_dropped() -> None:
    talk = Talk("shift", 64, system="Be brief.")
    talk.say("q" * 20, "a" * 10)
    whole = talk.say("Q" * 30, "a" * 60)
    # 12 tokens before, 33 of the question; the answer has what is left, and a token that was
    # chosen and found no room any more.
    assert (whole.finish_reason, whole.completion_tokens) == ("context", 64 - 12 - 33 + 1)
    assert bytes(cell.token for cell in talk.decoder.of(0)[13:43]) == b"Q" * 30
    with pytest.raises(
        ContextOverflowError, match="what must stay of the prompt has 65 tokens"
    ) as caught:
        talk.say("Q" * 50, "a")
    assert (caught.value.needed, caught.value.available) == (66, 64)
    assert len(talk.chat.messages) == 5
    assert talk.say("Q" * 48, "a").text == "a"


@pytest.mark.parametrize("n_ctx", [256, 96])
def test_whole_turns_are_dropped_and_rarely(n_ctx: int) -> None:
    talk = Talk("drop-turns", n_ctx, system="Be brief.")
    question, answer = n_ctx // 16, n_ctx // 32
    drops, dropped = 0, 0
    while len(talk.whole) < 5 * n_ctx:
        reply = talk.say("q" * question, "a" * answer)
        assert reply.finish_reason == "stop"
        assert reply.dropped_tokens == 0
        messages = talk.chat.messages[:-1]  # with the question
        kept = [messages[0], *messages[1 + 2 * reply.dropped_turns :]]
        assert talk.prompt.tokens == chatml(kept)
        assert reply.dropped_turns >= dropped
        if reply.dropped_turns > dropped:
            drops += 1
            assert reply.prompt_tokens <= n_ctx // 2
        dropped = reply.dropped_turns
    assert drops <= 16
    talk.chat.clear()
    assert talk.say("q", "a").dropped_turns == 0


def test_the_answer_s_length_counts_when_turns_are_dropped() -> None:
    for max_tokens, dropped in ((1, 0), (16, 0), (24, 1), (1000, 1), (None, 1)):
        talk = Talk("drop-turns", 96)
        talk.say("q" * 30, "a" * 10)
        # 1 + 44 + 23 + 9 tokens
        reply = talk.say("q" * 29, "a", Sampling(max_tokens=max_tokens))
        assert reply.dropped_turns == dropped, max_tokens


def test_what_cannot_be_dropped_is_refused_with_the_numbers() -> None:
    talk = Talk("refuse", 64)
    talk.say("q" * 20, "a" * 10)
    before = talk.chat.messages
    with pytest.raises(
        ContextOverflowError, match="the prompt has 68 tokens, the context 64"
    ) as caught:
        talk.say("q" * 30, "a")
    assert (caught.value.needed, caught.value.available) == (69, 64)
    assert "by 5 tokens" in caught.value.hint
    assert talk.chat.messages == before
    whole = talk.say("q" * 25, "aaa")  # 63 tokens
    assert (whole.text, whole.finish_reason) == ("aa", "context")
    with pytest.raises(ContextOverflowError, match="the prompt has 71 tokens"):
        Talk("drop-turns", 64).say("q" * 67, "a")


@pytest.mark.parametrize("render", [chatml, alternating])
@pytest.mark.parametrize("system", ["", "Be brief."])
def test_what_lies_between_the_system_prompt_and_the_question_may_go(
    render: Callable[..., list[int]], system: str
) -> None:
    for lengths in ((9, 9, 9), (1, 0, 1), (5, 2, 3, 4, 9), (3, 3, 3, 3, 3, 3, 3)):
        messages = conversation(*lengths, system=system)
        prompt = ContextPolicy("shift", 1000).chat(messages, render, Sampling())
        start, stop = prompt.droppable.start, prompt.droppable.stop
        question = render([messages[-1]])[1:]
        assert prompt.tokens[stop:] == question
        kept = prompt.tokens[:start]
        if render is chatml:
            assert kept == render(messages[: bool(system)], add_generation_prompt=False)
        else:  # the first question is dropped from within the message that both are in
            assert kept == [BOS, *([ROLES["user"], *system.encode(), 10, 10] if system else [])]


def test_a_first_question_that_is_probed_with_itself() -> None:
    messages = [Message("user", "?" * 9), Message("assistant", "a"), Message("user", "??")]
    prompt = ContextPolicy("shift", 1000).chat(messages, chatml, Sampling())
    assert prompt.droppable == range(1, 1 + 11 + 3)


@pytest.mark.parametrize("lengths", [(9,), (9, 9, 9)])
def test_nothing_is_dropped_where_it_cannot_be_told_what(lengths: tuple[int, ...]) -> None:
    render = picky if len(lengths) > 1 else chatml
    messages = conversation(*lengths)
    assert ContextPolicy("shift", 1000).chat(messages, render, Sampling()).droppable == range(0)
    with pytest.raises(ContextOverflowError):
        ContextPolicy("shift", 20).chat(messages, render, Sampling())


def test_a_text_loses_its_oldest_tokens_and_an_answer_only_if_asked() -> None:
    policy = ContextPolicy("shift", 64)
    tokens = [BOS, *range(100)]
    prompt = policy.text(tokens, Sampling(max_tokens=9), keep=1)
    gap = prompt.gap(len(tokens), 64)
    assert gap == (1, 62)  # twice half of the 63 that may go
    assert policy.text(tokens, Sampling(), keep=1).gap(10_000, 64) is None
    endless = prompt.gap(10_000, 64)
    assert endless is not None
    assert 64 - 31 < 10_000 - endless.length <= 64
    for overflow in ("refuse", "drop-turns"):
        with pytest.raises(ContextOverflowError, match="the prompt has 101 tokens"):
            ContextPolicy(overflow, 64).text(tokens, Sampling(), keep=1)
    with pytest.raises(InvalidOptionError, match="empty"):
        policy.text([], Sampling(), keep=0)


@pytest.mark.parametrize("n_ctx", [8, 9, 64])
def test_every_gap_leaves_what_must_stay_and_room(n_ctx: int) -> None:
    for total in range(1, 5 * n_ctx):
        for keep in (0, 1, n_ctx // 2, n_ctx - 1, n_ctx, 2 * n_ctx):
            for stop in (keep, keep + 3, keep + n_ctx, 10**9):
                gap = request(range(total), droppable=range(keep, stop)).prompt.gap(total, n_ctx)
                if gap is None:
                    assert total - min(stop - keep, max(0, total - 1 - keep)) > n_ctx
                elif gap.length:
                    assert gap.start == keep
                    assert gap.end <= min(stop, total - 1)
                    assert total - gap.length <= n_ctx < total
