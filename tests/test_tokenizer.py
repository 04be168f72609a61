"""Special tokens, chat templates, pre-tokenizers: what surrounds the vocabulary itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import builders
import families
import gguf
import pytest
import spm
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from edge_llama.config import ModelConfig
from edge_llama.native import NativeModel
from edge_llama_convert import SourceError, TokenizerError, UnsupportedError, convert, plan
from edge_llama_convert.vocab.pretokenizer import NAMES
from edge_llama_convert.vocab.splitting import recognise

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers.pre_tokenizers import PreTokenizer

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.fixture
def spm_source(tmp_path: Path) -> Path:
    return families.build(tmp_path, "llama2", "ragged")


@pytest.fixture
def bpe_source(tmp_path: Path) -> Path:
    return builders.build_tiny_checkpoint(tmp_path / "bpe")


def fields(source: Path, **options: Any) -> dict[str, Any]:
    out = source.parent / "out.gguf"
    convert(plan(source, recipe="q8_0", **options), out, force=True)
    prefix = "tokenizer."
    return {
        key.removeprefix(prefix): field.contents()
        for key, field in gguf.GGUFReader(out).fields.items()
        if key.startswith(prefix)
    }


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    content = {**content, **changes}
    builders.write_json(path, {key: value for key, value in content.items() if value != "drop"})


# -- end of turn ------------------------------------------------------------------------------


def test_every_end_token_of_the_generation_config_ends_a_generation(spm_source: Path) -> None:
    n = families.N_PIECES
    decoder = {
        str(n + i): {"content": text, "special": True}
        for i, text in enumerate(["<stop>", "<pause>", "<|eot_id|>", "<third>"])
    }
    edit(spm_source / "tokenizer_config.json", added_tokens_decoder=decoder)
    ends = [2, n, 5, n + 1, n + 2]  # 5 is an ordinary token and must stay one
    edit(spm_source / "generation_config.json", eos_token_id=ends)
    found = fields(spm_source)
    assert found["ggml.eos_token_id"] == 2
    assert found["ggml.eot_token_id"] == n
    assert found["ggml.eom_token_id"] == n + 1
    model = NativeModel(spm_source.parent / "out.gguf", ModelConfig())
    assert {token for token in range(model.n_vocab) if model.is_end(token)} == {2, n, n + 1, n + 2}
    model.close()


def test_ends_llama_cpp_knows_by_their_text_need_no_key(bpe_source: Path) -> None:
    # SmolLM2: 0 is <|endoftext|>, 2 is <|im_end|>.
    edit(bpe_source / "generation_config.json", eos_token_id=[2, 0])
    found = fields(bpe_source)
    assert "ggml.eot_token_id" not in found
    model = NativeModel(bpe_source.parent / "out.gguf", ModelConfig())
    assert model.is_end(0)
    assert model.is_end(2)
    model.close()


@pytest.mark.parametrize("value", [None, "2", [None, "x", -1, 10**9, True], {"a": 1}])
def test_odd_end_tokens_are_passed_over(spm_source: Path, value: Any) -> None:
    edit(spm_source / "generation_config.json", eos_token_id=value)
    assert "ggml.eot_token_id" not in fields(spm_source)


@pytest.mark.parametrize("entry", [{"temperature": "hot"}, {"top_k": 2.5}, {"top_p": [1]}])
def test_sampling_defaults_that_are_no_numbers(spm_source: Path, entry: dict[str, Any]) -> None:
    edit(spm_source / "generation_config.json", **entry)
    with pytest.raises(SourceError, match=rf"generation_config\.json: {next(iter(entry))} = "):
        plan(spm_source)


def test_a_list_in_config_json_counts_too(spm_source: Path) -> None:
    edit(spm_source / "config.json", eos_token_id=[2, families.N_PIECES + 2])
    edit(spm_source / "generation_config.json", eos_token_id="drop")
    found = fields(spm_source)
    assert found["ggml.eos_token_id"] == 2
    assert found["ggml.eot_token_id"] == families.N_PIECES + 2


def test_code_llama_s_end_of_infilled_text(tmp_path: Path) -> None:
    source = families.build(tmp_path, "codellama", "ragged")
    decoder = {
        str(32007 + i): {"content": f"\u2581<{text}>", "special": True}
        for i, text in enumerate(["PRE", "SUF", "MID", "EOT"])
    }
    config = {**spm.TOKENIZER_CONFIG, "added_tokens_decoder": decoder}
    builders.write_json(source / "tokenizer_config.json", config)
    found = fields(source)
    assert found["ggml.eot_token_id"] == 32010
    assert found["ggml.tokens"][32007:32011] == [entry["content"] for entry in decoder.values()]
    model = NativeModel(source.parent / "out.gguf", ModelConfig())
    lib, vocab = model._lib, model._vocab
    infill = [lib.llama_vocab_fim_pre, lib.llama_vocab_fim_suf, lib.llama_vocab_fim_mid]
    assert [role(vocab) for role in infill] == [32007, 32008, 32009]
    assert model.is_end(32010)
    model.close()


# -- what is added around a text --------------------------------------------------------------


def test_the_post_processor_decides_about_bos(spm_source: Path) -> None:
    edit(spm_source / "tokenizer_config.json", add_bos_token=False)
    assert fields(spm_source)["ggml.add_bos_token"] is True  # tokenizer.json puts <s> in front
    (spm_source / "tokenizer.json").unlink()
    assert fields(spm_source)["ggml.add_bos_token"] is False


def test_a_template_names_the_bos_that_the_configuration_does_not(spm_source: Path) -> None:
    edit(spm_source / "tokenizer_config.json", bos_token="drop")
    edit(spm_source / "config.json", bos_token_id=None)
    assert fields(spm_source)["ggml.bos_token_id"] == 1


# -- chat templates ---------------------------------------------------------------------------


def test_one_template_from_each_place(spm_source: Path) -> None:
    config = spm_source / "tokenizer_config.json"
    (spm_source / "chat_template.jinja").write_text("from jinja")
    assert fields(spm_source)["chat_template"] == spm.TOKENIZER_CONFIG["chat_template"]
    edit(config, chat_template="drop")
    assert fields(spm_source)["chat_template"] == "from jinja"
    (spm_source / "chat_template.jinja").unlink()
    assert "chat_template" not in fields(spm_source)
    builders.write_json(spm_source / "chat_template.json", {"chat_template": "from json"})
    assert fields(spm_source)["chat_template"] == "from json"


def test_several_templates(spm_source: Path) -> None:
    edit(spm_source / "tokenizer_config.json", chat_template="drop")
    (spm_source / "chat_template.jinja").write_text("plain")
    (spm_source / "additional_chat_templates").mkdir()
    for name in ("tool-use", "rag", "a"):
        file = spm_source / "additional_chat_templates" / f"{name}.jinja"
        file.write_text(f"with {name}")
    found = fields(spm_source)
    assert found["chat_template"] == "plain"
    assert found["chat_templates"] == ["a", "rag", "tool_use"]
    assert found["chat_template.tool_use"] == "with tool-use"
    templates = [{"name": "default", "template": "d"}, {"name": "rag", "template": "r"}]
    edit(spm_source / "tokenizer_config.json", chat_template=templates)
    found = fields(spm_source)
    assert (found["chat_template"], found["chat_template.rag"]) == ("d", "r")


@pytest.mark.parametrize(
    "value", [["x"], [{"name": "x"}], [{"name": "x", "template": 1}], "\ud800"]
)
def test_damaged_templates_are_one_error(spm_source: Path, value: Any) -> None:
    edit(spm_source / "tokenizer_config.json", chat_template=value)
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json is damaged"):
        plan(spm_source)


# -- pre-tokenizers ---------------------------------------------------------------------------


def byte_level(*splits: PreTokenizer, use_regex: bool = False) -> PreTokenizer:
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    return pre_tokenizers.Sequence([*splits, last]) if splits else last


def split(pattern: str) -> PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


@pytest.mark.parametrize(
    ("pre_tokenizer", "ignore_merges", "name"),
    [
        (byte_level(split(LLAMA3)), True, "llama-bpe"),
        (byte_level(split(LLAMA3)), False, "smaug-bpe"),
        (byte_level(split(LLAMA3.replace("{1,3}", ""))), False, "qwen2"),
        (byte_level(use_regex=True), False, "gpt-2"),
        (byte_level(use_regex=True), True, None),
        (byte_level(pre_tokenizers.Digits(True), use_regex=True), False, "smollm"),
        (byte_level(pre_tokenizers.Digits(False), use_regex=True), False, None),
        (byte_level(split(LLAMA3 + "|x")), True, None),
        (byte_level(split(LLAMA3), split(LLAMA3)), True, None),
        (pre_tokenizers.ByteLevel(add_prefix_space=True), False, None),
        (pre_tokenizers.Whitespace(), False, None),
        (None, False, None),
    ],
)
def test_a_splitting_is_recognised_by_its_regex(
    pre_tokenizer: PreTokenizer | None, ignore_merges: bool, name: str | None
) -> None:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    assert recognise(tokenizer) == name
    tokenizer.normalizer = normalizers.Lowercase()
    assert recognise(tokenizer) is None


def drop_merges(source: Path) -> None:
    """Change what the probe's hash depends on, but not how text is split."""
    path = source / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    merges = tokenizer["model"]["merges"]
    tokenizer["model"]["merges"] = merges[:-20000]
    path.write_text(json.dumps(tokenizer), encoding="utf-8")


def test_an_unknown_hash_of_a_known_splitting(bpe_source: Path) -> None:
    drop_merges(bpe_source)
    assert fields(bpe_source)["ggml.pre"] == "smollm"


def test_pre_names_what_cannot_be_found_out(bpe_source: Path) -> None:
    path = bpe_source / "tokenizer.json"
    edit(path, pre_tokenizer={"type": "Whitespace"})
    with pytest.raises(UnsupportedError, match="unknown pre-tokenizer") as caught:
        plan(bpe_source)
    assert "--pre NAME" in caught.value.hint
    found = fields(bpe_source, pre="tekken")
    assert found["ggml.pre"] == "tekken"


def test_pre_is_checked(bpe_source: Path) -> None:
    with pytest.raises(UnsupportedError, match="unknown pre-tokenizer 'llama-bp'") as caught:
        plan(bpe_source, pre="llama-bp")
    assert "llama-bpe" in caught.value.hint


def test_llama_cpp_loads_every_name(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = byte_level(use_regex=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(spm.CORPUS, trainer)
    source = builders.build_tiny_checkpoint(tmp_path / "x", changes={"vocab_size": 320})
    tokenizer.save(str(source / "tokenizer.json"))
    for name in sorted(NAMES):
        out = tmp_path / "out.gguf"
        convert(plan(source, recipe="q8_0", pre=name), out, force=True)
        NativeModel(out, ModelConfig()).close()
