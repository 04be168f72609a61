"""Matchers on a real vocabulary: forced tokens, masks in place, the end, threads, lifetimes."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from typing import TYPE_CHECKING

import numpy as np
import pytest
from grammars import BYTES, ByteVocabulary
from test_grammar_gbnf import NativeVocabulary

from edge_llama.errors import GrammarError, StateError
from edge_llama.grammar import Grammar, compile_grammar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORD = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "kind": {"enum": ["moon", "planet", "star"]},
        "radius_km": {"type": "integer", "minimum": 1, "maximum": 99999},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3},
        "born": {"type": "string", "format": "date"},
    },
    "required": ["name", "kind", "radius_km", "tags", "born"],
}
GRAMMARS = {
    "record": Grammar.json_schema(RECORD),
    "any": Grammar.json(max_depth=2, max_string_length=20, max_items=3, max_extra_keys=2),
    "phone": Grammar.regex(r"\+\d{1,3} \(\d{3}\) \d{3}-\d{4}"),
    "choice": Grammar.choice("calm", "calmly", "tense", "tenderness"),
    "template": Grammar.template("Name: {n}\nAge: {a}\n", n=Grammar.regex("[A-Z][a-z]{1,9}"),
                                 a=Grammar.json_schema({"type": "integer", "minimum": 0})),
    "gbnf": Grammar.gbnf('root ::= ("- " [a-z ]{1,9} "\\n"){1,3} "done."'),
}  # fmt: skip


@pytest.fixture(scope="module")
def smol(embedded: Path) -> Iterator[NativeVocabulary]:
    vocabulary = NativeVocabulary(embedded)
    yield vocabulary
    vocabulary.model.close()


@pytest.mark.model
@pytest.mark.parametrize("name", GRAMMARS)
def test_walks_give_valid_values_in_the_model_s_own_tokens(
    smol: NativeVocabulary, name: str
) -> None:
    grammar = GRAMMARS[name]
    compiled = compile_grammar(grammar, smol)
    rng = np.random.default_rng(7)
    jumped = 0
    for _ in range(6):
        matcher, exact = compiled.matcher(), compiled.matcher(forcing=False)
        tokens: list[int] = []
        while not matcher.must_end and len(tokens) < 300:
            forced = matcher.forced()
            for token in forced:  # what is forced could be chosen as well
                assert exact.allows(token)
                exact.push([token])
            jumped += len(forced)
            matcher.push(forced)
            tokens += forced
            if matcher.must_end:
                break
            logits = rng.standard_normal(smol.n_vocab).astype(np.float32)
            logits[smol.end_tokens] += 4
            logits[smol.encode(b'"')] += 4
            token = int(logits.argmax())
            if not matcher.allows(token):
                matcher.mask(logits)
                token = int(logits.argmax())
                assert matcher.allows(token)
            assert exact.allows(token)
            matcher.push([token])
            exact.push([token])
            if token in smol.end_tokens:
                break
            tokens.append(token)
        assert exact.may_end or len(tokens) >= 300
        text = b"".join(map(smol.spelling, tokens)).decode()
        if exact.may_end:
            grammar.parse(text)
    assert jumped or name in {"any", "choice"}


@pytest.mark.model
def test_allowed_is_what_the_mask_leaves(smol: NativeVocabulary) -> None:
    matcher = compile_grammar(GRAMMARS["record"], smol).matcher(forcing=False)
    for text in ("", '{"na', 'me": "Ti', 'tan", "kind": "', 'moon", "radius_km": 25', "75"):
        matcher.push(smol.encode(text.encode()))
        logits = np.zeros(smol.n_vocab, np.float32)
        matcher.mask(logits)
        allowed = [token for token in range(0, smol.n_vocab, 7) if matcher.allows(token)]
        assert allowed == [t for t in range(0, smol.n_vocab, 7) if np.isfinite(logits[t])]


@pytest.mark.model
def test_forced_text_is_tokenised_as_the_model_does(smol: NativeVocabulary) -> None:
    own = smol.encode(
        b'{"name": "Titan", "kind": "moon", "radius_km": 2575, "tags": ["icy"], "born": "1655-03-25"}'
    )
    matcher = compile_grammar(GRAMMARS["record"], smol).matcher()
    place = jumped = 0
    while place < len(own):  # along the model's own tokens, all that is forced is among them
        forced = matcher.forced()
        assert forced == own[place : place + len(forced)]
        matcher.push(forced)
        place += len(forced)
        jumped += len(forced)
        matcher.push(own[place : place + 1])
        place += 1
    assert matcher.must_end
    assert jumped > len(own) / 3


def test_the_end() -> None:
    matcher = compile_grammar(Grammar.regex("ab?"), BYTES).matcher()
    assert not matcher.may_end
    assert not matcher.allows(BYTES.eos)
    matcher.push([ord("a")])
    assert matcher.may_end
    assert not matcher.must_end
    assert matcher.in_structure
    assert all(matcher.allows(end) for end in BYTES.end_tokens)
    matcher.mask(logits := np.zeros(BYTES.n_vocab, np.float32))
    assert set(np.flatnonzero(np.isfinite(logits))) == {ord("b"), *BYTES.end_tokens}
    matcher.push([BYTES.eot])
    assert matcher.must_end
    assert matcher.forced() == []
    assert not matcher.allows(ord("b"))
    with pytest.raises(StateError):
        matcher.push([ord("b")])
    whole = compile_grammar(Grammar.regex("ab?"), BYTES).matcher()
    whole.push([*b"ab", BYTES.eos])
    assert whole.must_end
    quoted = compile_grammar(Grammar.regex('".*"'), BYTES).matcher()
    quoted.push(list(b'"'))
    assert not any(quoted.allows(end) for end in (*BYTES.end_tokens, BYTES.control))
    quoted.mask(logits := np.zeros(BYTES.n_vocab, np.float32))
    assert np.isinf(logits[[*BYTES.end_tokens, BYTES.control]]).all()
    wrong = compile_grammar(Grammar.regex("ab?"), BYTES).matcher()
    with pytest.raises(GrammarError):
        wrong.push([BYTES.eos])


def test_a_token_that_is_not_allowed_is_an_error_for_good() -> None:
    matcher = compile_grammar(Grammar.regex("ab"), BYTES).matcher()
    with pytest.raises(GrammarError, match="does not go on"):
        matcher.push(list(b"ax"))
    for use in (lambda: matcher.push([98]), lambda: matcher.may_end, matcher.forced,
                lambda: matcher.mask(np.zeros(BYTES.n_vocab, np.float32))):  # fmt: skip
        with pytest.raises(GrammarError):
            use()
    assert not matcher.allows(ord("b"))
    assert not matcher.allows(BYTES.eos)


def test_the_mask_is_applied_in_place_and_to_nothing_else() -> None:
    matcher = compile_grammar(Grammar.regex("[a-c]"), BYTES).matcher()
    logits = np.arange(BYTES.n_vocab, dtype=np.float32)
    matcher.mask(logits)
    kept = np.flatnonzero(np.isfinite(logits))
    assert list(kept) == [97, 98, 99]
    assert list(logits[kept]) == [97, 98, 99]


def test_compiled_once_also_by_threads() -> None:
    vocabulary, grammar = ByteVocabulary(), Grammar.json()
    found: list[object] = []

    def work() -> None:
        compiled = compile_grammar(grammar, vocabulary)
        found.append(compiled)
        matcher = compiled.matcher()
        matcher.push(list(b'{"a": [1, 2]}'))
        assert matcher.may_end

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_a_vocabulary_is_not_kept_alive() -> None:
    vocabulary = ByteVocabulary()
    compiled = compile_grammar(Grammar.json(), vocabulary)
    matcher = compiled.matcher()
    watch = weakref.ref(vocabulary)
    del vocabulary
    gc.collect()
    assert watch() is not None  # a generation goes on with it
    del matcher
    gc.collect()
    assert watch() is None
    with pytest.raises(StateError):
        compiled.matcher()


def test_a_vocabulary_that_fails_does_no_harm() -> None:
    class Closing(ByteVocabulary):
        closed = False

        def encode(self, data: bytes) -> list[int]:
            if self.closed:
                raise StateError("the model is closed", hint="Open it.")
            return super().encode(data)

    vocabulary = Closing()
    compiled = compile_grammar(Grammar.choice("hello world"), vocabulary)
    vocabulary.closed = True
    matcher = compiled.matcher()
    assert b"".join(map(vocabulary.spelling, matcher.forced())).startswith(b"hello")


def test_characters_that_no_token_spells() -> None:
    class Poor(ByteVocabulary):
        def spelling(self, token: int) -> bytes:
            return b"" if token == ord("z") else super().spelling(token)

    vocabulary = Poor()
    with pytest.raises(GrammarError, match="no text fits"):
        compile_grammar(Grammar.choice("zebra"), vocabulary)
    matcher = compile_grammar(Grammar.choice("az"), vocabulary).matcher()
    matcher.push(list(b"a"))
    assert not any(matcher.allows(token) for token in range(vocabulary.n_vocab))
    with pytest.raises(GrammarError, match="cannot go on"):
        matcher.mask(np.zeros(vocabulary.n_vocab, np.float32))


def test_spaces_that_a_tokenizer_adds_are_no_part_of_forced_text() -> None:
    class Sentence(ByteVocabulary):  # as SentencePiece: a space at the beginning of all text
        def encode(self, data: bytes) -> list[int]:
            return super().encode(b" " + data)

    vocabulary = Sentence()
    matcher = compile_grammar(Grammar.choice("hello"), vocabulary).matcher()
    assert b"".join(map(BYTES.spelling, matcher.forced())) == b"hello"


@pytest.mark.model
def test_usual_schemas_compile_in_milliseconds(smol: NativeVocabulary) -> None:
    compile_grammar(Grammar.choice("warm up"), smol)
    times = []
    for number in range(5):
        start = time.perf_counter()
        schema = {**RECORD, "title": f"number {number}"}
        compile_grammar(Grammar.json_schema(schema), smol)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05  # 5 ms on a quiet machine
