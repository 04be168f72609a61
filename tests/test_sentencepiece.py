"""SentencePiece vocabularies, tokenised by llama.cpp and by the libraries they come from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import builders
import families
import gguf
import pytest
import sentencepiece
import spm
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from edge_llama.config import ModelConfig
from edge_llama.native import NativeModel
from edge_llama_convert import TokenizerError, UnsupportedError, convert, plan
from edge_llama_convert.vocab.bpe_scores import encode, scores_of
from edge_llama_convert.vocab.pretokenizer import PROBE
from edge_llama_convert.vocab.probe import PROBES

if TYPE_CHECKING:
    from pathlib import Path

STRINGS = [*spm.STRINGS, PROBE]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tiny Llama 2 with a SentencePiece tokenizer and eight rows to spare."""
    return make(tmp_path / "source")


def make(folder: Path, vocab_size: int = families.N_PIECES + 8) -> Path:
    return spm.build_checkpoint(folder, {"vocab_size": vocab_size})


def make_fast(folder: Path, tokenizer: Tokenizer) -> Path:
    make(folder)
    (folder / "tokenizer.model").unlink()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def table() -> list[tuple[str, float]]:
    return spm.pieces(families.TOKENIZER.read_bytes())


def llama_cpp(source: Path) -> NativeModel:
    convert(plan(source, recipe="q8_0"), source.parent / "out.gguf", force=True)
    return NativeModel(source.parent / "out.gguf", ModelConfig())


def fields(source: Path) -> dict[str, Any]:
    convert(plan(source, recipe="q8_0"), source.parent / "out.gguf", force=True)
    reader = gguf.GGUFReader(source.parent / "out.gguf")
    return {key: field.contents() for key, field in reader.fields.items()}


def test_llama_cpp_tokenises_a_tokenizer_model_like_sentencepiece(source: Path) -> None:
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(families.TOKENIZER.read_bytes())
    model = llama_cpp(source)
    for text in STRINGS:
        tokens = model.tokenize(text, add_special=False, parse_special=False)
        assert tokens == processor.Encode(text), text
    assert model.adds_bos
    assert (model.bos, model.eos) == (1, 2)
    model.close()


@pytest.mark.parametrize("legacy", [True, False])
def test_llama_cpp_tokenises_a_tokenizer_json_like_tokenizers(tmp_path: Path, legacy: bool) -> None:
    tokenizer = spm.fast_tokenizer(table(), legacy=legacy)
    model = llama_cpp(make_fast(tmp_path / "fast", tokenizer))
    # The newer way adds no space to a text that begins with one; GGUF cannot say that.
    for text in (text for text in STRINGS if legacy or not text.startswith(" ")):
        expected = tokenizer.encode(text, add_special_tokens=False).ids
        assert model.tokenize(text, add_special=False, parse_special=False) == expected, text
    chat = "<s>[INST] the shells [/INST]</s>"
    expected = tokenizer.encode(chat, add_special_tokens=False).ids
    if legacy:  # a space after every special token; the newer way has it at the beginning only
        assert model.tokenize(chat, add_special=False, parse_special=True) == expected
    model.close()


def test_a_tokenizer_json_without_space_prefix(tmp_path: Path) -> None:
    tokenizer = spm.fast_tokenizer(table(), legacy=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    source = make_fast(tmp_path / "fast", tokenizer)
    assert fields(source)["tokenizer.ggml.add_space_prefix"] is False
    model = llama_cpp(source)
    for text in STRINGS:
        expected = tokenizer.encode(text, add_special_tokens=False).ids
        assert model.tokenize(text, add_special=False, parse_special=False) == expected, text
    model.close()


def test_both_kinds_of_file_give_the_same_tokens_and_types(tmp_path: Path) -> None:
    slow = fields(make(tmp_path / "slow"))
    fast = fields(make_fast(tmp_path / "fast", spm.fast_tokenizer(table())))
    for key in ("tokens", "token_type", "model", "pre", "bos_token_id", "eos_token_id"):
        assert slow[f"tokenizer.ggml.{key}"] == fast[f"tokenizer.ggml.{key}"]


def test_scores_follow_the_first_merge_that_makes_a_token() -> None:
    merges = [("b", "c"), ("a", "bc"), ("a", "b"), ("ab", "c")]
    tokens = ["a", "b", "c", "bc", "abc", "ab"]
    scores = scores_of(tokens, merges)
    assert scores == [-4.0, -4.0, -4.0, 0.0, -1.0, -2.0]
    ids = {token: number for number, token in enumerate(tokens)}
    assert encode("abcab", ids, scores) == [4, 5]


def test_merges_that_scores_cannot_say_are_refused(tmp_path: Path) -> None:
    """Trained directly as BPE: a token can be reached by pairs that are no merges."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator([*spm.CORPUS, PROBE], trainer)
    with pytest.raises(UnsupportedError, match="would split text otherwise") as caught:
        plan(make_fast(tmp_path / "fast", tokenizer))
    assert caught.value.hint


def test_added_tokens_and_padding(source: Path) -> None:
    n = families.N_PIECES
    builders.write_json(source / "added_tokens.json", {"<pad>": n, "far": 9999, "\u2581wq": n + 1})
    config = {
        **spm.TOKENIZER_CONFIG,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(n): {"content": "<pad>", "special": False},
            str(n + 2): {"content": "<|im_end|>", "special": False},
            str(n + 3): {"content": "\u2581x\u2581y", "special": False},
            str(n + 4): {"content": "<call>", "special": True},
        },
    }
    builders.write_json(source / "tokenizer_config.json", config)
    found = fields(source)
    tokens, scores, types = (
        found[f"tokenizer.ggml.{key}"][n:] for key in ("tokens", "scores", "token_type")
    )
    assert tokens == ["<pad>", "\u2581wq", "<|im_end|>", " x y", "<call>"] + [
        f"[PAD{number}]" for number in range(n + 5, n + 8)
    ]
    assert scores == [-1000.0] * 5 + [-10000.0] * 3
    kind = gguf.TokenType
    named = [kind.CONTROL, kind.USER_DEFINED, kind.CONTROL, kind.USER_DEFINED, kind.CONTROL]
    assert types == [*named, *[kind.UNUSED] * 3]
    assert found["tokenizer.ggml.add_space_prefix"] is False
    assert found["tokenizer.ggml.token_type"][:4] == [2, 3, 3, 6]  # unknown, control, byte


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 999, "half"])
def test_a_damaged_tokenizer_model_is_named(source: Path, content: bytes | str) -> None:
    whole = families.TOKENIZER.read_bytes()
    data = whole[: len(whole) // 2] if isinstance(content, str) else content
    (source / "tokenizer.model").write_bytes(data)
    with pytest.raises(TokenizerError, match=r"tokenizer\.model: not a SentencePiece") as caught:
        plan(source)
    assert "tokenizer.json" in caught.value.hint


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\xe2\x96\x81the", b"\xe2\x96\x81\xffhe"),  # not UTF-8
        (b"<0x7F>", b"<0x7\xff"),  # SentencePiece's own message is not UTF-8 then
        (b"\x00\x00\x80\xbf", b"\x00\x00\xc0\x7f"),  # the score -1.0 becomes NaN
    ],
)
def test_a_tokenizer_model_with_flipped_bits_is_named(source: Path, old: bytes, new: bytes) -> None:
    content = families.TOKENIZER.read_bytes()
    assert old in content
    (source / "tokenizer.model").write_bytes(content.replace(old, new, 1))
    with pytest.raises(TokenizerError, match=r"tokenizer\.model: not a SentencePiece model"):
        plan(source)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("added_tokens.json", {"x": "y"}),
        ("added_tokens.json", {"x": -1}),
        ("added_tokens.json", {"x": None}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {"content": "y"}}}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"5": {}}}),
        ("tokenizer_config.json", {"added_tokens_decoder": [1]}),
        ("tokenizer_config.json", {"add_prefix_space": "yes"}),
    ],
)
def test_damaged_files_beside_it_are_named(source: Path, name: str, content: Any) -> None:
    (source / name).write_text(json.dumps(content))
    with pytest.raises(TokenizerError, match=name.replace(".", r"\.")):
        plan(source)


def test_more_pieces_than_the_embedding_has_rows(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="440 pieces, but the embedding has 400 rows"):
        plan(make(tmp_path / "x", vocab_size=400))


def test_a_tokenizer_json_without_byte_tokens(tmp_path: Path) -> None:
    short = [piece for piece in table() if piece[0] != "<0xF0>"]
    with pytest.raises(TokenizerError, match=r"1 of 256 byte tokens missing, e\.g\. <0xF0>"):
        plan(make_fast(tmp_path / "x", spm.fast_tokenizer(short)))


# --- Settings of a SentencePiece model ------------------------------------------------------------


def make_trained(folder: Path, config: dict[str, Any] | None = None, **options: Any) -> Path:
    """A checkpoint with a tokenizer.model of the given settings."""
    model = spm.train(**options)
    make(folder, vocab_size=len(spm.pieces(model)))
    spm.write(folder, model, {**spm.TOKENIZER_CONFIG, **(config or {})})
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "unigram", "vocab_size": 380}, "of type unigram; supported is bpe"),
        ({"model_type": "word", "hard_vocab_limit": False}, "of type word; supported is bpe"),
        ({"treat_whitespace_as_suffix": True}, "spaces where llama.cpp does not look"),
        ({"normalization_rule_name": "nmt_nfkc_cf"}, r"rewrites characters \(nmt_nfkc_cf\)"),
    ],
)
def test_what_llama_cpp_would_misread_is_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnsupportedError, match=rf"tokenizer\.model: .*{message}") as caught:
        plan(make_trained(tmp_path / "x", **options))
    assert "other tokens" in caught.value.hint


def test_a_model_without_byte_tokens_would_end_the_process(tmp_path: Path) -> None:
    source = make_trained(tmp_path / "x", byte_fallback=False, vocab_size=200)
    with pytest.raises(TokenizerError, match=r"tokenizer\.model: 256 of 256 byte tokens missing"):
        plan(source)


@pytest.mark.parametrize(
    ("options", "config", "expected"),
    [
        ({"add_dummy_prefix": False}, {}, False),
        ({"add_dummy_prefix": False}, {"add_prefix_space": True}, True),
        ({}, {"add_prefix_space": False}, False),
        ({}, {}, None),  # llama.cpp's default
    ],
)
def test_the_space_in_front(
    tmp_path: Path, options: dict[str, Any], config: dict[str, Any], expected: bool | None
) -> None:
    source = make_trained(tmp_path / "x", config, **options)
    assert fields(source).get("tokenizer.ggml.add_space_prefix") is expected
    work, model = plan(source), llama_cpp(source)
    read = [model.tokenize(text, add_special=False, parse_special=True) for text in PROBES]
    model.close()
    assert read == [list(ids) for ids in work.probes]


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({"normalization_rule_name": "nmt_nfkc"}, "rewrites characters (nmt_nfkc)"),
        ({"remove_extra_whitespaces": True}, "makes runs of spaces one"),
    ],
)
def test_rewriting_is_told_and_the_tokens_are_right_without_it(
    tmp_path: Path, options: dict[str, Any], note: str
) -> None:
    source = make_trained(tmp_path / "x", **options)
    work, model = plan(source), llama_cpp(source)
    assert [note in each for each in work.notes] == [True]
    read = [model.tokenize(text, add_special=False, parse_special=True) for text in PROBES]
    model.close()
    assert read == [list(ids) for ids in work.probes]


def test_pieces_that_no_merging_makes_are_looked_for(tmp_path: Path) -> None:
    source = make_trained(tmp_path / "x", user_defined_symbols=["<|im_start|>", "7", "a b"])
    found = fields(source)
    kinds = dict(
        zip(found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"], strict=True)
    )
    assert kinds["<|im_start|>"] == gguf.TokenType.USER_DEFINED
    assert kinds["7"] == kinds["a b"] == gguf.TokenType.NORMAL
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromFile(str(source / "tokenizer.model"))
    model = llama_cpp(source)
    for text in ("the shells<|im_start|>the sea", "17 and 777", "a b"):
        tokens = model.tokenize(text, add_special=False, parse_special=False)
        assert tokens == processor.Encode(text.replace("|>", "|> ")), text  # llama.cpp's space
    model.close()


def test_pre_means_nothing_to_it(source: Path, tmp_path: Path) -> None:
    fast = make_fast(tmp_path / "fast", spm.fast_tokenizer(table()))
    for folder, name in ((source, "tokenizer.model"), (fast, "tokenizer.json")):
        with pytest.raises(UnsupportedError, match=rf"{name}: .* so --pre llama-bpe has no"):
            plan(folder, pre="llama-bpe")


def test_damaged_merges(tmp_path: Path) -> None:
    source = make_fast(tmp_path / "x", spm.fast_tokenizer(table()))
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = []
    (source / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(TokenizerError, match="no merges"):
        plan(source)
