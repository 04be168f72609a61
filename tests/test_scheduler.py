"""The scheduler on a fake decoder: whatever runs beside a generation, its text stays the same."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING

import pytest
from fakes import Bench, FakeClient, FakeDecoder, alone, request

from edge_llama import cache, scheduler
from edge_llama.generate import Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_llama.decoder import Part
    from edge_llama.generate import Request


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
