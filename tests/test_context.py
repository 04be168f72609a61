"""Sequences in llama.cpp's cache: copied, saved, shifted and aborted without hurting each other."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_llama import ModelConfig, StateError
from edge_llama.decoder import Part
from edge_llama.native import NativeContext, NativeModel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

pytestmark = pytest.mark.model

TOKENS = [random.Random(1).randrange(1000, 40000) for _ in range(40)]


@pytest.fixture(scope="module")
def native(embedded: Path) -> Iterator[NativeModel]:
    native = NativeModel(embedded, ModelConfig())
    yield native
    native.close()


@pytest.fixture(params=["f16", "q8_0"])
def context(request: pytest.FixtureRequest, native: NativeModel) -> Iterator[NativeContext]:
    context = NativeContext(native, ModelConfig(n_batch=64, kv_type=request.param), n_ctx=256)
    yield context
    context.close()


def read(
    context: NativeContext, sequence: int, tokens: list[int], position: int = 0
) -> npt.NDArray[np.float32]:
    """Decode in one batch and return the logits of the last token."""
    assert context.decode([Part(sequence, tokens, position, wants_logits=True)])
    logits: npt.NDArray[np.float32] = context.logits()[0].copy()
    return logits


def test_copies_and_restored_states_go_on_with_the_same_bits(context: NativeContext) -> None:
    read(context, 0, TOKENS[:30])
    expected = read(context, 0, TOKENS[30:], 30)
    assert context.truncate(0, 30)
    assert context.copy(0, 1, 30)
    state = context.save(0)
    assert len(state) == context.state_size(0)
    assert context.truncate(0, 0)
    assert (read(context, 1, TOKENS[30:], 30) == expected).all()
    assert context.restore(2, state)
    assert (read(context, 2, TOKENS[30:], 30) == expected).all()


def test_sequences_in_one_batch_do_not_see_each_other(context: NativeContext) -> None:
    alone = [read(context, 0, TOKENS[:10]), read(context, 1, TOKENS[10:])]
    context.clear()
    parts = [Part(1, TOKENS[10:], 0, wants_logits=True), Part(0, TOKENS[:10], 0, wants_logits=True)]
    assert context.decode(parts)
    together = context.logits(2)[::-1]
    for expected, got in zip(alone, together, strict=True):
        # Other blocks of matrices and other cells of the cache: sums are rounded differently.
        assert expected.argmax() == got.argmax()
        assert np.corrcoef(expected, got)[0, 1] > 0.99


def test_a_shift_moves_one_sequence_and_leaves_the_other(context: NativeContext) -> None:
    read(context, 0, TOKENS)
    read(context, 1, TOKENS)
    other = bytes(context.save(1))
    context.shift(0, 4, 20)
    with pytest.raises(StateError, match="shifted"):
        context.save(0)
    shifted = read(context, 0, [5], 24)
    assert bytes(context.save(1)) == other
    # Not the same as reading what is left, for that saw what is gone; near it, though.
    context.clear()
    cut = read(context, 0, [*TOKENS[:4], *TOKENS[20:], 5])
    assert 0.9 < np.corrcoef(shifted, cut)[0, 1] < 1


def test_an_abort_hurts_nobody(context: NativeContext) -> None:
    read(context, 0, TOKENS)
    read(context, 1, TOKENS[:20])
    expected = read(context, 0, [5], 40)
    context.truncate(0, 40)
    batch = [Part(0, [5], 40, wants_logits=True), Part(1, TOKENS[20:], 20, wants_logits=True)]
    context.request_abort()
    assert not context.decode(batch)
    with pytest.raises(StateError, match="no logits"):
        context.logits()
    context.clear_abort()
    assert context.truncate(0, 40)
    assert context.truncate(1, 20)
    assert (read(context, 0, [5], 40) == expected).all()


def test_a_shift_is_finished_even_if_the_batch_is_aborted(context: NativeContext) -> None:
    read(context, 0, TOKENS)
    context.shift(0, 4, 20)
    expected = read(context, 0, [5], 24)
    context.clear()
    read(context, 0, TOKENS)
    context.shift(0, 4, 20)
    context.request_abort()
    assert (read(context, 0, [5], 24) == expected).all()  # it cannot be aborted
    assert not context.decode([Part(0, [6], 25, wants_logits=True)])  # the next one can
