"""From messages and texts to tokens, with real vocabularies."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import families
import pytest
import spm

from edge_llama import ContextOverflowError, Message, Model, inspect
from edge_llama.config import ModelConfig
from edge_llama.cuts import safe_cuts
from edge_llama.messages import as_dicts
from edge_llama.native import NativeModel
from edge_llama.prompt import chat_tokens, least_tokens
from edge_llama.template import ChatTemplate
from edge_llama.tokenmemory import Latest, TokenMemory
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


def test_parts_have_the_tokens_of_the_whole(native: NativeModel) -> None:
    assert native.cuts
    memory = TokenMemory(native, native.cuts)
    rng = random.Random(1)
    controls = [*native.special_texts().values(), *native.cuts]
    for _ in range(300):
        text = "".join(rng.choice([*spm.STRINGS, *controls, " ", "\n"]) for _ in range(8))
        for add_special in (True, False):
            whole = native.tokenize(text, add_special=add_special, parse_special=True)
            assert memory.tokenize(text, add_special=add_special) == whole


def test_no_cut_where_special_texts_overlap() -> None:
    plain = ("<|a|>", "<|ab|>", "</s>")
    assert safe_cuts(plain, plain) == plain
    for inside in (">", "<", "|a|"):  # the longer one is looked for first
        assert safe_cuts(plain, {*plain, inside}) == plain
    for other, cuts in (
        ("x<|a", ("</s>",)),
        ("x<|a|>z", ("<|ab|>", "</s>")),
        ("s>\n", ("<|a|>", "<|ab|>")),
        ("<|a|><|ab|>", ("</s>",)),
    ):
        assert safe_cuts(plain, {*plain, other}) == cuts
    assert safe_cuts(["aa", ""], ["aa"]) == ()


class Counting:
    """Counts the characters that are tokenised."""

    def __init__(self, native: NativeModel) -> None:
        self._native, self.count = native, 0
        self.adds_bos, self.longest_piece = native.adds_bos, native.longest_piece
        self.special_texts = native.special_texts

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        self.count += len(text)
        return self._native.tokenize(text, add_special=add_special, parse_special=parse_special)


def test_a_turn_tokenises_what_is_new(embedded: Path) -> None:
    source = inspect(embedded).chat_template
    assert source is not None
    template = ChatTemplate(source)
    native = NativeModel(embedded, ModelConfig(), vocab_only=True)
    counting = Counting(native)
    memory = TokenMemory(counting, native.cuts)
    messages = [Message("system", "Be brief.")]
    for turn in range(40):
        messages.append(Message("user", f"What about <|im_end|> number {turn}?" + " word" * 50))
        before = counting.count
        tokens = chat_tokens(memory, template, as_dicts(messages), bos="")
        # Two looks for forged tokens, and the message in its frame, once with each stand-in.
        assert counting.count - before < 5 * len(messages[-1].content) + 200
        messages.append(Message("assistant", f"Nothing about {turn}."))
    assert chat_tokens(TokenMemory(native, ()), template, as_dicts(messages[:-1]), bos="") == tokens
    native.close()


def test_the_least_recently_used_text_is_forgotten() -> None:
    made: list[str] = []

    def length(text: str) -> int:
        made.append(text)
        return len(text)

    latest: Latest[int] = Latest(10)
    for text in ("aaaa", "bbbb", "aaaa", "cccc", "aaaa", "bbbb", "too long for it"):
        assert latest.get(text, length) == len(text)
    assert made == ["aaaa", "bbbb", "cccc", "bbbb", "too long for it"]
