"""The scheduler on a fake decoder: whatever runs beside a generation, its text stays the same."""

from __future__ import annotations

import random
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest
from fakes import END, Bench, FakeClient, FakeDecoder, Script, alone, request

from edge_llama import StateError, cache, scheduler
from edge_llama.generate import Reply, Request
from edge_llama.overflow import Prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_llama.decoder import Part


def assert_as_alone(client: FakeClient, asked: Request, seed: int, n_ctx: int) -> None:
    """A finished answer is what it would have been alone; a cancelled one is its beginning."""
    expected, result = alone(asked, seed, n_ctx), client.result
    if client.cancelled and isinstance(result, InterruptedError):
        assert client.texts == []
        return
    assert isinstance(result, Reply), result
    if result.finish_reason == "cancelled":
        assert client.cancelled
        assert result.tokens == expected.tokens[: len(result.tokens)]
        return
    got = (client.reply.text, result.finish_reason, result.tokens, result.dropped_tokens)
    assert got == (expected.text, expected.reason, expected.tokens, expected.dropped)
    assert result.context_tokens <= n_ctx
    assert 0 <= result.cached_tokens < result.prompt_tokens


class Play:
    """A random schedule: who asks what and when, who gives up, what is aborted."""

    def __init__(self, seed: int) -> None:
        rng = self.rng = random.Random(seed)
        n_sequences = rng.randint(1, 4)
        self.n_ctx = rng.choice([12, 24, 48])
        self.decoder = FakeDecoder(
            self.n_ctx,
            rng.randint(n_sequences, 9),
            n_sequences,
            can_shift=rng.random() < 0.8,
            can_cut=rng.random() < 0.85,
        )
        self.bench = Bench(self.decoder, rng.choice([0, 300, 100_000]))
        self.asked: list[tuple[FakeClient, Request, int]] = []
        self.bases = [[rng.randrange(97, 101) for _ in range(rng.randint(1, 9))] for _ in "ab"]
        self.abort_rate = rng.choice([0, 0, 0.2])
        failures = rng.choice([0, 0.3])
        self.decoder.fails = lambda: rng.random() < failures

    def ask(self) -> None:
        rng = self.rng
        tokens = list(rng.choice(self.bases))
        finished = [(client, asked) for client, asked, _ in self.asked if client.result]
        if finished and rng.random() < 0.6:  # a conversation goes on
            client, asked = rng.choice(finished)
            if isinstance(client.result, Reply):
                tokens = [*asked.prompt.tokens, *client.result.tokens]
        tokens += [rng.randrange(97, 101) for _ in range(rng.randint(1, self.n_ctx // 3))]
        keep = rng.choice([0, 1, 4])
        droppable = rng.choice(
            [range(0), range(keep, max(keep, len(tokens) - 3)), range(keep, sys.maxsize)]
        )
        wish = request(
            tokens,
            droppable=droppable,
            stop=rng.choice([(), ("ab",), ("aé", "d ")]),
            max_tokens=rng.choice([1, 5, 3 * self.n_ctx]),
        )
        if wish.prompt.gap(len(tokens) + 1, self.n_ctx) is not None:  # else it is refused before
            for _ in range(rng.choice([1, 1, 3])):  # candidates
                seed = rng.randrange(4)
                self.asked.append((self.bench.add(wish, seed), wish, seed))

    def disturb(self, parts: Sequence[Part]) -> bool:
        """Cancel someone now and then while a batch is decoded, which aborts it."""
        if self.rng.random() >= self.abort_rate:
            return False
        running = [client for client, _, _ in self.asked if client.result is None]
        if running and self.rng.random() < 0.3:
            self.rng.choice(running).cancel()
        return bool(parts)

    def run(self) -> None:
        self.decoder.on_decode = self.disturb
        for _ in range(6):
            for _ in range(self.rng.randint(0, 3)):
                self.ask()
            for _ in range(self.rng.choice([1, 10, 60])):
                self.bench.step()
        self.bench.run()
        for client, wish, seed in self.asked:
            assert_as_alone(client, wish, seed, self.n_ctx)


@pytest.mark.parametrize("first", range(0, 600, 50))
def test_any_schedule_gives_each_what_it_would_get_alone(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(first, first + 50):
        worth = random.Random(seed).choice([2, 16])  # 256 tokens would never be parked here
        monkeypatch.setattr(cache.pool, "WORTH_PARKING", worth)
        monkeypatch.setattr(cache.pool, "WORTH_WAITING", worth)
        monkeypatch.setattr(scheduler, "WORTH_WAITING", worth)
        try:
            Play(seed).run()
        except BaseException as error:
            raise AssertionError(f"schedule {seed}") from error


def text(length: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(97, 123) for _ in range(length)]


def test_candidates_share_one_prefill() -> None:
    bench = Bench(FakeDecoder(200, 20, 4))
    wish = request(text(60), max_tokens=8)
    clients = [bench.add(wish, seed) for seed in range(4)]
    bench.run()
    assert [client.reply.cached_tokens for client in clients] == [0, 59, 59, 59]
    answers = sum(max(0, client.reply.completion_tokens - 1) for client in clients)
    ends = sum(client.reply.finish_reason == "stop" for client in clients)
    assert bench.decoder.decoded <= 60 + 3 + answers + ends
    for seed, client in enumerate(clients):
        assert_as_alone(client, wish, seed, 200)


def test_a_batch_of_prompts_shares_its_beginning_as_soon_as_that_is_read() -> None:
    bench = Bench(FakeDecoder(300, 32, 4))
    examples = text(64)
    clients = [
        bench.add(request([*examples, *text(length, length)], max_tokens=1))
        for length in (80, 3, 4, 5)
    ]
    bench.run()
    assert [client.reply.cached_tokens for client in clients] == [0, 64, 64, 64]
    assert bench.decoder.decoded == 64 + 80 + 3 + 4 + 5
    # They began while the first was still being read, and did not wait for its end.
    assert [len(part.tokens) for part in bench.decoder.batches[2]] == [3, 4, 5, 20]


def test_a_prompt_of_its_own_does_not_wait() -> None:
    bench = Bench(FakeDecoder(300, 16, 2))
    bench.add(request(text(100)))
    other = bench.add(request(text(10, 5), max_tokens=3))
    for _ in range(9):
        bench.step()
    assert other.result is not None


def test_more_requests_than_sequences_queue() -> None:
    bench = Bench(FakeDecoder(64, 8, 2))
    asked = [request(text(5, seed), max_tokens=10) for seed in range(9)]
    clients = [bench.add(wish, seed) for seed, wish in enumerate(asked)]
    bench.run()
    for seed, (client, wish) in enumerate(zip(clients, asked, strict=True)):
        assert_as_alone(client, wish, seed, 64)


def test_answers_go_on_while_a_long_prompt_is_read() -> None:
    bench = Bench(FakeDecoder(4000, 512, 2))
    answering = bench.add(
        request(text(3), max_tokens=50), make_sampler=lambda: Script(iter([97] * 50))
    )
    bench.step()
    bench.add(request(text(1500, 1), max_tokens=1))
    for _ in range(5):
        bench.step()
        batch = bench.decoder.batches[-1]
        assert sorted(len(part.tokens) for part in batch) == [1, 128]
    assert len("".join(answering.texts)) == 6


@pytest.mark.parametrize("parked_bytes", [0, 100_000])
def test_a_conversation_that_had_to_make_room_is_not_read_again(parked_bytes: int) -> None:
    bench = Bench(FakeDecoder(1000, 64), parked_bytes)
    first, second = text(600, 1), text(500, 2)
    bench.one(request(first, max_tokens=1))
    bench.one(request(second, max_tokens=1))
    assert bench.decoder.free == 1000 - 500  # what lies idle does not slow others down
    assert bench.store.nbytes <= parked_bytes
    kept = 600 if parked_bytes else 0
    wish = request([*first, 5, 6], max_tokens=4)
    reply = bench.one(wish, 3)
    assert reply.cached_tokens == kept
    assert reply.tokens == alone(wish, 3, 1000).tokens
    # Other endings of the same beginning, of what is in the cache and of what is parked.
    for others in ([], [second]):
        for other in others:
            bench.one(request(other, max_tokens=1))
        bench.one(request([*first[:100], 7], max_tokens=1))
        again = bench.one(request([*first, 5, 6, 7], max_tokens=1))
        assert again.cached_tokens == (602 if parked_bytes else 100)


def test_the_store_is_bounded_and_the_oldest_goes_first() -> None:
    bench = Bench(FakeDecoder(400, 64), parked_bytes=2 * 300 * 16)
    for seed in range(4):
        bench.one(request(text(300, seed), max_tokens=1))
    parked = [
        bench.store.find(partial(lambda seed, kept: kept.tokens == text(300, seed), seed))
        for seed in range(4)
    ]
    assert [one is not None for one in parked] == [False, True, True, False]
    assert bench.store.nbytes == 2 * 300 * 16  # the last one is in the cache


def test_who_steps_aside_goes_on_in_order() -> None:
    bench = Bench(FakeDecoder(64, 8, 3), parked_bytes=100_000)
    wishes = [request(text(10, seed), max_tokens=40) for seed in range(3)]
    clients = [bench.add(wish, make_sampler=lambda: Script(iter([97] * 40))) for wish in wishes]
    finished: list[int] = []
    while len(finished) < 3:
        bench.step()
        finished += [i for i, one in enumerate(clients) if one.result and i not in finished]
    assert finished == [0, 1, 2]
    assert {client.reply.completion_tokens for client in clients} == {40}
    # Their states went out and in; no token was computed twice.
    assert bench.decoder.decoded == 3 * (10 + 39)


def test_nobody_begins_who_would_have_to_step_aside_at_once() -> None:
    bench = Bench(FakeDecoder(64, 8, 2))  # four cells are left free for each to grow
    bench.add(request(text(40), max_tokens=20), make_sampler=lambda: Script(iter([97] * 20)))
    bench.step()
    late = bench.add(request(text(20, 1)), make_sampler=lambda: Script(iter([97, END])))
    bench.run()
    assert late.reply.text == "a"
    assert all(len(batch) == 1 for batch in bench.decoder.batches)


def test_a_finished_candidate_is_not_shifted_under_one_that_still_runs() -> None:
    bench = Bench(FakeDecoder(64, 20, 2), parked_bytes=100_000)
    prompt = text(40)
    ended = bench.add(request(prompt, max_tokens=2), make_sampler=lambda: Script(iter([97, 97])))
    running = request(prompt, max_tokens=15)
    other = bench.add(running, 2)
    while ended.result is None:
        bench.step()
    assert [len(bench.decoder.of(number)) for number in range(2)] == [41, 40]
    assert bench.decoder.free == 64 - 41 - 1  # the rest is shared
    wish = request(
        [*prompt, *ended.reply.tokens, *text(30, 7)], droppable=range(2, 50), max_tokens=3
    )
    client = bench.add(wish, 3)
    bench.run()
    assert_as_alone(client, wish, 3, 64)
    assert_as_alone(other, running, 2, 64)


def test_cancelling_anyone_at_any_time_changes_nothing_for_the_others() -> None:
    wishes = [request(text(20, 1), max_tokens=12), request(text(9, 2)), request(text(13, 3))]
    for victim in range(3):
        for at in range(40):
            bench = Bench(FakeDecoder(64, 6, 3))
            clients = [bench.add(wish, seed) for seed, wish in enumerate(wishes)]

            def abort(
                _: object,
                decoder: FakeDecoder = bench.decoder,
                client: FakeClient = clients[victim],
                at: int = at,
            ) -> bool:
                if len(decoder.batches) == at and client.result is None:
                    client.cancel()
                    return True
                return False

            bench.decoder.on_decode = abort
            bench.run()
            for seed, (client, wish) in enumerate(zip(clients, wishes, strict=True)):
                assert_as_alone(client, wish, seed, 64)
            again = bench.one(wishes[victim], victim)
            assert again.tokens == alone(wishes[victim], victim, 64).tokens


def test_a_failed_decode_ends_those_that_run_and_nobody_else() -> None:
    bench = Bench(FakeDecoder(64, 8, 1))
    running, waiting = bench.add(request(text(5))), bench.add(request(text(6)), 1)

    def fail(_: Sequence[Part]) -> bool:
        bench.decoder.on_decode = lambda _: False
        raise OSError("broken")

    bench.decoder.on_decode = fail
    bench.run()
    assert isinstance(running.result, OSError)
    assert_as_alone(waiting, request(text(6)), 1, 64)


def test_a_failing_sampler_ends_its_own_generation_only() -> None:
    bench = Bench(FakeDecoder(64, 8, 3))
    wish = request(text(5), max_tokens=9)
    unmade = bench.add(wish, make_sampler=lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    broken = bench.add(wish, make_sampler=lambda: Script(iter([97, 97])))
    healthy = bench.add(wish, 4)
    bench.run()
    assert isinstance(unmade.result, ZeroDivisionError)
    assert isinstance(broken.result, StopIteration)
    assert_as_alone(healthy, wish, 4, 64)


def test_a_question_that_cannot_be_answered_ends_its_own_generation_only() -> None:
    bench = Bench(FakeDecoder(16, 8, 1))
    prompt = Prompt(tokens=text(5), find_droppable=lambda: range(1 // 0))
    script = Script(iter([97] * 20))
    broken = bench.add(Request(prompt=prompt), make_sampler=lambda: script)
    healthy = bench.add(request(text(6)), 1)
    bench.run()
    assert isinstance(broken.result, ZeroDivisionError)
    assert_as_alone(healthy, request(text(6)), 1, 16)


def test_closing_ends_everyone() -> None:
    bench = Bench(FakeDecoder(64, 8, 1))
    running, waiting = bench.add(request(text(5))), bench.add(request(text(6)))
    bench.step()
    bench.scheduler.close()
    assert running.reply.finish_reason == "cancelled"
    assert isinstance(waiting.result, StateError)
    assert bench.scheduler.is_idle
