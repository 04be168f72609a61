"""From messages and texts to tokens, with real vocabularies."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import families
import pytest
import spm

from edge_llama import ContextOverflowError, Model
from edge_llama.config import ModelConfig
from edge_llama.native import NativeModel
from edge_llama.prompt import least_tokens
from edge_llama_convert import convert, plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model with a SentencePiece vocabulary, which knows no Chinese."""
    folder = tmp_path_factory.mktemp("spm")
    convert(plan(families.build(folder, "llama-mha", "ragged"), recipe="q8_0"), folder / "x.gguf")
    return folder / "x.gguf"


@pytest.fixture(params=["sentencepiece", "embedded"])
def native(request: pytest.FixtureRequest) -> Iterator[NativeModel]:
    path = request.getfixturevalue(request.param)
    native = NativeModel(path, ModelConfig(), vocab_only=True)
    yield native
    native.close()


def test_a_text_never_has_fewer_tokens_than_its_length_tells(native: NativeModel) -> None:
    longest = native.longest_piece
    assert longest == max(len(native.spelling(token)) for token in range(native.n_vocab))
    rng = random.Random(1)
    texts = [*spm.STRINGS, " " * 500, *native.special_texts().values()]
    pieces = [native.text(token) for token in range(native.n_vocab)]
    texts += ["".join(rng.choices(pieces, k=50)) for _ in range(50)]
    texts.append(max(pieces, key=len) * 50)
    for text in texts:
        count = len(native.tokenize(text, add_special=False, parse_special=True))
        assert least_tokens(native, text) <= count


def test_a_text_that_cannot_fit_is_refused_before_it_is_tokenised(sentencepiece: Path) -> None:
    with Model.open(sentencepiece, n_ctx=512, overflow="refuse") as model:
        started = time.perf_counter()
        with pytest.raises(ContextOverflowError, match="at least") as caught:
            model.generate("\u7684" * 300_000, raw=True)  # llama.cpp takes a minute for it
        assert time.perf_counter() - started < 2
    assert caught.value.needed > caught.value.available == 512


@pytest.mark.parametrize("overflow", ["shift", "drop-turns", "refuse"])
def test_so_is_a_question(overflow: str, embedded: Path) -> None:
    with Model.open(embedded, n_ctx=512, overflow=overflow) as model:
        with pytest.raises(ContextOverflowError, match="at least"):
            model.chat(system="Be brief.").send("moons" * 20_000)
        with pytest.raises(ContextOverflowError, match=r"has \d"):  # counted
            model.chat(system="Be brief.").send("moons" * 700)
