"""GBNF against llama.cpp's own reading of it, mask by mask, on a real vocabulary."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from grammars import BYTES, check

from edge_llama.config import ModelConfig
from edge_llama.errors import GrammarError
from edge_llama.grammar import Grammar, compile_grammar
from edge_llama.native import NativeModel
from edge_llama.native.library import llama

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class NativeVocabulary:
    """A model file's vocabulary."""

    def __init__(self, path: Path) -> None:
        self.model = NativeModel(path, ModelConfig(), vocab_only=True)
        self.n_vocab = self.model.n_vocab
        eos = self.model.eos
        assert eos is not None
        ends = [token for token in range(self.n_vocab) if self.model.is_end(token)]
        self.end_tokens: Sequence[int] = [eos, *(end for end in ends if end != eos)]
        self._control = self.model.special_texts().keys()

    def spelling(self, token: int) -> bytes:
        return self.model.spelling(token)

    def is_control(self, token: int) -> bool:
        return token in self._control

    def encode(self, data: bytes) -> list[int]:
        return self.model.tokenize(data.decode(), add_special=False, parse_special=False)


@pytest.fixture(scope="session")
def smol(embedded: Path) -> Iterator[NativeVocabulary]:
    vocabulary = NativeVocabulary(embedded)
    yield vocabulary
    vocabulary.model.close()


class Peer:
    """llama.cpp's grammar sampler."""

    def __init__(self, vocabulary: NativeVocabulary, text: str) -> None:
        self._lib: Any = llama()
        self._sampler = self._lib.llama_sampler_init_grammar(
            vocabulary.model.vocab, text.encode(), b"root"
        )
        assert self._sampler, "llama.cpp refuses the grammar"
        self._data = (self._lib.llama_token_data * vocabulary.n_vocab)()
        self._count = vocabulary.n_vocab

    def allowed(self) -> np.ndarray[Any, Any]:
        kind = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        view = np.frombuffer(self._data, dtype=kind)
        view["id"], view["logit"] = np.arange(self._count), 1
        array = self._lib.llama_token_data_array(self._data, self._count, -1, False)
        self._lib.llama_sampler_apply(self._sampler, ctypes.byref(array))
        allowed: np.ndarray[Any, Any] = np.isfinite(view["logit"])
        return allowed

    def accept(self, token: int) -> None:
        self._lib.llama_sampler_accept(self._sampler, token)

    def close(self) -> None:
        self._lib.llama_sampler_free(self._sampler)


GRAMMARS = {
    "one lexeme begins another": 'root ::= "a" "b" "d" | "ab" "c"',
    "a repeat before what it takes too": 'root ::= [a-z]+ "x" | [a-z]* "!"',
    "overlapping rules": 'root ::= a b | b a\na ::= [a-c]+\nb ::= [b-d]+ "e"?',
    "recursion in the middle": 'root ::= "(" root ")" | [a-z]* "."',
    "recursion at the end": 'root ::= l\nl ::= i "," l | i\ni ::= "a" | "b" i',
    "mutual recursion": 'root ::= a\na ::= "x" b | "."\nb ::= "y" a | "!"',
    "palindromes": 'root ::= "a" root "a" | "b" root "b" | "a" | "b" | ""',
    "counts": 'root ::= "a"{2} [bc]{1,3} ("d" | "ee"){2,} "f"{0,1} "g"{ 0 , 2 } "h"{0}',
    "escapes": r'root ::= "\x41\u00e9\U0001F600" [\x30-\x39] "\"\\" [\]\[\-^a] "é"* "\t\r\n"',
    "classes": "root ::= [^a-z\\n] [a-] [-b] [^^]*",
    "line ends": 'root ::=\n  "a" | # why\n  "b" ( "c"\n | "d" ) # more\n\n  # all\nx ::= "y"',
    "any character": 'root ::= "<" .{1,4} ">"',
    "nullable": 'root ::= ("a"? "b"?)* "c"',
    "repeats of repeats": 'root ::= "ab"+? "c"{2}{2} "d"*',
    "keywords": 'root ::= ws "if" ws name | ws name ws "="\nws ::= [ ]*\nname ::= [a-z]+',
    "expressions": 'root ::= e\ne ::= t (("+" | "-") t)*\nt ::= "x" | "xx" "y" | "(" e ")" | [0-9]+',
    "Japanese": "root ::= jp+ ([ \\t\\n] jp+)*\njp ::= [ぁ-ゟ] | [ァ-ヿ] | [一-鿿]",
    "JSON": (
        'root ::= object\nvalue ::= object | array | string | number | ("true" | "null") ws\n'
        'object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws\n'
        'array ::= "[" ws ( value ("," ws value)* )? "]" ws\n'
        'string ::= "\\"" ( [^"\\\\\\x7F\\x00-\\x1F] | "\\\\" (["\\\\bfnrt] | "u" [0-9a-f]{4}) )* '
        '"\\"" ws\nnumber ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ws\n'
        'ws ::= | " " | "\\n" [ \\t]{0,20}\n'
    ),
}


@pytest.mark.model
@pytest.mark.parametrize("name", GRAMMARS)
def test_masks_are_those_of_llama_cpp(smol: NativeVocabulary, name: str) -> None:
    # llama.cpp lets tokens pass that end inside a character; so do we, but what is no UTF-8 at
    # all it judges by chance, and tokens without bytes are never useful.
    whole = np.array([is_text(smol.spelling(t)) for t in range(smol.n_vocab)])
    control = np.array([smol.is_control(t) for t in range(smol.n_vocab)])
    compared = (whole & ~control) | np.isin(np.arange(smol.n_vocab), smol.end_tokens)
    short = np.array([len(smol.spelling(t)) < 3 for t in range(smol.n_vocab)])
    compiled = compile_grammar(Grammar.gbnf(GRAMMARS[name]), smol)
    rng = np.random.default_rng(len(name))
    peer, matcher = Peer(smol, GRAMMARS[name]), compiled.matcher(forcing=False)
    try:
        for _ in range(6):
            logits = np.zeros(smol.n_vocab, np.float32)
            matcher.mask(logits)
            ours, theirs = np.isfinite(logits), peer.allowed()
            odd = np.flatnonzero((ours != theirs) & compared)
            assert not odd.size, [(smol.spelling(int(t)), bool(ours[t])) for t in odd[:5]]
            options = np.flatnonzero(ours & theirs & whole & ~control)
            if not options.size:
                break  # the end, or only parts of characters
            likely = options[short[options]]
            token = int(rng.choice(likely if likely.size else options))
            assert matcher.allows(token)
            matcher.push([token])
            peer.accept(token)
    finally:
        peer.close()


def is_text(data: bytes) -> bool:
    try:
        return bool(data) and data[0] != 0 and bool(data.decode())
    except UnicodeDecodeError:
        return False


def test_tokens_by_id_and_by_text() -> None:
    grammar = Grammar.gbnf('root ::= <|tool|> [a-z]+ "." <[256]>? !<[97]> !</think>')
    matcher = compile_grammar(grammar, BYTES).matcher()
    word = 259 + BYTES.words.index(b"</think>")
    assert matcher.allows(BYTES.control)
    assert not matcher.allows(ord("<"))
    matcher.push([BYTES.control, *b"ab.", BYTES.control])
    assert not matcher.allows(97)
    assert matcher.allows(98)
    matcher.push([98])
    assert not matcher.allows(word)
    assert not matcher.may_end
    matcher.push([97])
    assert matcher.may_end
    assert matcher.must_end
    assert grammar.parse("ab") == "ab"  # what tokens said cannot be seen in the text
    for wrong, what in (("<nothing>", "no token"), ("<[9999]>", "no token"), ("<|end|>", "ends")):
        with pytest.raises(GrammarError, match=what):
            compile_grammar(Grammar.gbnf(f"root ::= {wrong}"), BYTES)


def test_beyond_llama_cpp() -> None:
    check(Grammar.gbnf('root ::= root "+" n | n\nn ::= [0-9]+'), ["1", "1+22+3"], ["", "+", "1+"])
    check(Grammar.gbnf('root ::= root root | "a"'), ["a", "aaa"], ["", "b"])
    check(Grammar.gbnf('a ::= "x"\nb_c ::= a a', root="b_c"), ["xx"], ["x"])
    dead = Grammar.gbnf('root ::= "a" | "b" never\nnever ::= "c" never')
    check(dead, ["a"], ["b", "bc"])
    matcher = compile_grammar(dead, BYTES).matcher()
    assert not matcher.allows(ord("b"))  # nothing could come of it


def test_long_lists_written_by_recursion() -> None:
    grammar = Grammar.gbnf('root ::= item root | item\nitem ::= "- " [a-z]+ "\\n"')
    check(grammar, ["- abc\n" * 1000])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no rule 'root'"), ("root", "::="), ("root ::= x", "not defined"), ('root ::= "a', "ends"),
        ("root ::= [a", "ends"), ("root ::= (", "expected"), ("root ::= *", "repeats nothing"),
        ('root ::= "a"{3,2}', "wrong order"), ('root ::= "a"{x}', "repeat like"), ("root ::= []", "class"),
        ('root ::= "\\q"', "escape"), ('root ::= "a"\nroot ::= "b"', "twice"), ("root ::= root", "end"),
        ('root ::= "a" root', "end"), ('root ::= "a"\n| "b"', "rule's name"), ("root ::= <", "token"),
        ('root ::= "a" )', "not expected"), ('root ::= "\\uD800"', "no character"),
        ('root ::= "\ud800"', "surrogate"),
    ],
)  # fmt: skip
def test_mistakes_are_named(text: str, what: str) -> None:
    with pytest.raises(GrammarError, match=what) as caught:
        Grammar.gbnf(text)
    assert caught.value.hint
