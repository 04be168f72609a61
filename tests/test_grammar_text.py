"""Regular expressions, choices, templates, Lark and text before a marker."""

from __future__ import annotations

import pickle
import random
import re

import numpy as np
import pytest
from grammars import BYTES, accepts, check, mutated, walk

from edge_llama.errors import GrammarError, IncompleteError, InvalidOutputError
from edge_llama.grammar import Grammar, compile_grammar

PATTERNS = [
    r"\d{4}-\d\d-\d\d", r"\+?(?:\d{1,3}[ -])?\(?\d{3}\)?[ -]\d{3}-\d{4}", r"a*b+c?", r"(ab|a)(bc|c)",
    r"[a-c-]+", r"[]a]+", r"[^a-z\s]{2}", r"x|y|", r"(?i:ab)c", r"(?i)[a-c]k", r"a.c", r"(?s)a.c",
    r"(?s:a.)c.", r"\w+\W\w*", r"\S+ \S+", r"a{2}", r"a{,2}", r"a{2,}", r"a{2,4}?b*?", r"a{b}", r"{a",
    r"^ab$", r"\Aab\Z", r"^a|b$|c", r"(?P<y>a)(?:b)(c)", r"\x41\u00e9\U0001F600\N{DIGIT ONE}", r"\101\0",
    r"[\d\-x]+", r"\.\*\[\]\\", r"(?a:\w)\w", r"é+ü?", r"[à-ý]", r"(a?){3}b", r"(a|b)*abb", r"(?#c)a(?#d)",
    r"[\w.]+@[\w.]+", r"()", r"(|a)+b", r"[^\n]+\n", r"\t\r\n\f\v\a", r"[+-]?\d+(\.\d+)?([eE]\d+)?",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_regex_means_what_python_means(pattern: str) -> None:
    grammar, rng, chance = Grammar.regex(pattern), np.random.default_rng(1), random.Random(1)
    compiled = compile_grammar(grammar, BYTES)
    known = re.compile(pattern)
    texts = [walk(compiled, rng, 90, b"abc019 -@\n") for _ in range(8)]
    assert any(text is not None for text in texts)
    for text in texts:
        assert text is None or known.fullmatch(text), text
    pool = [
        "",
        "a",
        "b",
        "ab",
        "abc",
        "aab",
        "aaa",
        "abb",
        "A",
        "aBc",
        "a\nc",
        "a b",
        "é",
        "²",
        "٣",
        "x",
    ]
    pool += [mutated(text, chance) for text in texts if text is not None for _ in range(5)]
    for text in pool:
        assert accepts(grammar, text) == bool(known.fullmatch(text)), text


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        (r"(?=a)b", "look-ahead"), (r"(?<!a)b", "look-behind"), (r"(a)\1", "back-reference"),
        (r"(?P<x>a)(?P=x)", "back-reference"), (r"a\b", "word boundary"), (r"(?(1)a|b)", "condition"),
        (r"(?>a)", "atomic"), (r"a++", "possessive"), (r"(?m)^a", "flags"), (r"a^b", "anchor"),
        (r"(a", "not closed"), (r"a)", "closes nothing"), (r"[a", "not closed"), (r"*a", "repeat"),
        (r"a{3,2}", "wrong order"), (r"[b-a]", "wrong order"), (r"a**", "repeat of a repeat"),
        (r"\q", "escape"), ("a\\", "backslash"), (r"[\d-z]", "range"), (r"\pL", "property"),
        ("\ud800", "no character"), (r"\ud800", "surrogate"), (r"\N{NO SUCH}", "character name"),
    ],
)  # fmt: skip
def test_what_is_not_regular_is_named(pattern: str, what: str) -> None:
    with pytest.raises(GrammarError, match=what) as caught:
        Grammar.regex(pattern)
    assert caught.value.hint


def test_a_choice_is_one_of_its_texts() -> None:
    grammar = Grammar.choice("yes", "yesterday", "no", "", "a.b", 'q"/\\\n', "é")
    check(
        grammar, ["yes", "yesterday", "no", "", "a.b", 'q"/\\\n', "é"], ["yest", "axb", "n", "nono"]
    )
    assert grammar.parse("yes") == "yes"
    with pytest.raises(IncompleteError):
        grammar.parse("yest")
    with pytest.raises(InvalidOutputError):
        grammar.parse("nono")
    for wrong in ((), (5,)):
        with pytest.raises(GrammarError, match="texts"):
            Grammar.choice(*wrong)


def test_a_template_is_filled() -> None:
    grammar = Grammar.template(
        "Name: {name}\nAge: {age}{{}}\n{more}.",
        name=Grammar.regex("[A-Z][a-z]*"),
        age=Grammar.json_schema({"type": "integer", "minimum": 0}),
        more=Grammar.json_schema({"type": "array", "items": {"type": "integer"}}),
    )
    text = "Name: Ann\nAge: 31{}\n[1, 2]."
    check(grammar, [text], [text[:-1], text.replace("31", "-1"), text + " "])
    assert grammar.parse(text) == {"name": "Ann", "age": 31, "more": [1, 2]}
    matcher = compile_grammar(grammar, BYTES).matcher()
    forced = matcher.forced()
    assert b"".join(map(BYTES.spelling, forced)) == b"Name: "
    with pytest.raises(IncompleteError):
        grammar.parse("Name: Ann\nAge: 3")


def test_holes_side_by_side_are_read_exactly() -> None:
    # The first hole could swallow what the second needs; any one lexeme would.
    words = Grammar.template("{a}{b}x", a=Grammar.regex("[a-z]+"), b=Grammar.regex("[a-z]"))
    check(words, ["abx", "abcx", "xxx"], ["ax", "x", "abc"])
    assert words.parse("abcx") == {"a": "ab", "b": "c"}
    nested = Grammar.template(
        "<{t}>", t=Grammar.template("{n}:{v}", n=Grammar.regex(r"\w+"), v=words)
    )
    assert nested.parse("<k:abx>") == {"t": {"n": "k", "v": {"a": "a", "b": "b"}}}
    gbnf = Grammar.gbnf('root ::= "(" root ")" | [a-z]*')
    both = Grammar.template("{g}{h}", g=gbnf, h=Grammar.choice("!", "a!"))
    check(both, ["((b))!", "ba!", "!", "(a)a!"], ["((b)!", "b"])
    number = Grammar.json_schema({"anyOf": [{"type": "integer"}, {"type": "array"}]})
    with pytest.raises(GrammarError, match="number"):
        compile_grammar(Grammar.template("{n}0", n=number), BYTES)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{a", "single"),
        ("a}", "single"),
        ("{a}{a}", "twice"),
        ("{b}", "fills"),
        ("none", "no hole"),
    ],
)
def test_a_template_s_mistakes_are_named(text: str, what: str) -> None:
    with pytest.raises(GrammarError, match=what):
        Grammar.template(text, a=Grammar.regex("a"))


def test_lark_with_json_inside() -> None:
    grammar = Grammar.lark(
        'start: "call(" %json {"type": "object", "properties": {"a": {"type": "integer"}}} ")" // {\n'
    )
    check(grammar, ['call({"a": 5})', "call({})"], ['call({"b": 5})', "call()", 'call({"a": 5}'])
    assert grammar.parse("call({})") == "call({})"
    with pytest.raises(GrammarError, match=r"\$\.propertis"):
        Grammar.lark('start: %json {"propertis": {}}')
    with pytest.raises(GrammarError, match="line 1"):
        Grammar.lark("start: %json {")
    for wrong in ("start: undefined", "no grammar", "start: start", 'start: "a" & "b"'):
        with pytest.raises(GrammarError):
            compile_grammar(Grammar.lark(wrong), BYTES)


def test_free_text_before_a_marker() -> None:
    grammar = Grammar.json_schema({"type": "object"}).after("</think>")
    check(
        grammar,
        ["hm </think>{}", "</think>\n\n{}", "a</think></think>{}"[:9] + "{}", "x{</think> {}"],
        ["{}", "</think>", "a</think>\n\n\n{}", "a</think>x{}", "a</think>", "a</think >{}"],
    )
    assert grammar.parse('so </think>\n\n{"a": 1}') == {"a": 1}
    with pytest.raises(IncompleteError, match="before"):
        grammar.parse("so <think>")
    text = "a</think>b"
    with pytest.raises(InvalidOutputError):
        grammar.parse(text)
    for wrong in ("", "x"):
        with pytest.raises(GrammarError):
            (grammar if wrong else Grammar.json()).after(wrong)
    with pytest.raises(GrammarError, match="marker"):
        Grammar.template("{a}", a=grammar)


def test_tokens_across_the_marker() -> None:
    grammar = Grammar.json_schema({"type": "object"}).after("</think>")
    matcher = compile_grammar(grammar, BYTES).matcher()
    word = 259 + BYTES.words.index(b"nk>\n\n{")
    marker = 259 + BYTES.words.index(b"</think>")
    assert not matcher.in_structure
    assert matcher.allows(BYTES.control)
    assert not any(matcher.allows(end) for end in BYTES.end_tokens)
    matcher.push(list(b"so </thi"))
    assert matcher.allows(word)
    assert matcher.forced() == []
    logits = np.zeros(BYTES.n_vocab, np.float32)
    matcher.mask(logits)
    assert set(np.flatnonzero(np.isinf(logits))) == set(BYTES.end_tokens)
    matcher.push([word])
    assert matcher.in_structure
    assert not matcher.allows(BYTES.control)
    matcher.push(list(b"}"))
    assert matcher.must_end
    # With a grammar that cannot begin with the rest of the token, that token may not come.
    other = compile_grammar(Grammar.choice("yes").after("</think>"), BYTES).matcher()
    other.push(list(b"</thi"))
    assert not other.allows(word)
    other.mask(logits := np.zeros(BYTES.n_vocab, np.float32))
    assert np.isinf(logits[word])
    whole = compile_grammar(Grammar.choice("yes").after("</think>"), BYTES).matcher()
    whole.push([*b"x", marker])
    assert b"".join(map(BYTES.spelling, whole.forced())) == b"yes"


def test_grammars_are_values() -> None:
    made = [
        Grammar.json(), Grammar.regex("a"), Grammar.choice("a", "b"), Grammar.gbnf('root ::= "a"'),
        Grammar.lark('start: "a"'), Grammar.json_schema({"type": "null"}, whitespace=1).after("x"),
        Grammar.template("{a}!", a=Grammar.json()),
    ]  # fmt: skip
    assert len(set(made)) == len(made)
    for grammar in made:
        copy = pickle.loads(pickle.dumps(grammar))
        assert copy == grammar
        assert hash(copy) == hash(grammar)
        assert compile_grammar(copy, BYTES) is compile_grammar(grammar, BYTES)
