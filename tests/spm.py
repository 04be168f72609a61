"""SentencePiece material that exists without a hub: small models trained on the spot."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import builders
import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Text with words, digits, code, runs of spaces and several scripts.
CORPUS = [
    "The quick brown fox jumps over the lazy dog while the other foxes are watching it.",
    "She sells sea shells on the sea shore; the shells that she sells are sea shells for sure.",
    "def add(left, right):\n    return left + right\n\n    if left > right:\n        print(left)",
    "In 1969 the first people walked on the Moon, 384400 km away, and came back in 8 days.",
    "Das Wetter ist heute sch\u00f6n, aber morgen soll es regnen, sagte der alte M\u00fcller.",
    (
        "L'\u00e9t\u00e9 dernier, "
        "nous sommes all\u00e9s \u00e0 la mer et nous avons mang\u00e9 des glaces."
    ),
    (
        "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! "
        "\u041a\u0430\u043a \u0434\u0435\u043b\u0430 "
        "\u0443 \u0442\u0435\u0431\u044f \u0441\u0435\u0433\u043e\u0434\u043d\u044f?"
    ),
    "What is the answer? The answer is that there is no answer, said the other one there.",
]

#: What tokenizers must agree on.
STRINGS = [
    *CORPUS,
    "",
    " ",
    "  two  spaces   three",
    "a",
    " the the",
    "\n\nnew\tlines\r\n",
    "unknown \u4f60\u597d\u4e16\u754c \U0001f680 \u0928\u092e\u0938\u094d\u0924\u0947",
    "1234567890 3.14159 1,000,000",
    "aaaaaaaaaaaaaaaaaaaaaaa ssssss sssss",
    "sea-shells//shells==the\\there",
    "ThE qUiCk bRoWn fOx",
    "it's she's they'll we've",
]


def train(vocab_size: int = 440, **options: Any) -> bytes:
    """A SentencePiece BPE model with byte fallback, as Llama 2's is made."""
    model = io.BytesIO()
    settings = {
        "model_type": "bpe",
        "byte_fallback": True,
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "character_coverage": 0.9999,
        "num_threads": 1,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        vocab_size=vocab_size,
        **{**settings, **options},
    )
    return model.getvalue()


def pieces(model: bytes) -> list[tuple[str, float]]:
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model)
    count = processor.GetPieceSize()
    return [(processor.IdToPiece(i), processor.GetScore(i)) for i in range(count)]


def merges_of(table: list[tuple[str, float]]) -> list[tuple[str, str]]:
    """The merges a fast tokenizer gets: every split of every piece, best pieces first."""
    ids = {text: number for number, (text, _) in enumerate(table)}
    merges = []
    for text, score in table:
        splits = [(text[:i], text[i:]) for i in range(1, len(text))]
        known = [(left, right) for left, right in splits if left in ids and right in ids]
        known.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        merges += [(-score, *pair) for pair in known]
    merges.sort(key=lambda merge: merge[0])
    return [(left, right) for _, left, right in merges]


def fast_tokenizer(table: list[tuple[str, float]], *, legacy: bool = True) -> Tokenizer:
    """The ``tokenizers`` equivalent of a SentencePiece model, as transformers converts it."""
    vocab = {text: number for number, (text, _) in enumerate(table)}
    tokenizer = Tokenizer(
        models.BPE(vocab, merges_of(table), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    if legacy:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    specials = ["<unk>", "<s>", "</s>"]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in specials])
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


TOKENIZER_CONFIG: dict[str, Any] = {
    "add_bos_token": True,
    "add_eos_token": False,
    "added_tokens_decoder": {
        str(number): {"content": text, "normalized": False, "special": True}
        for number, text in enumerate(["<unk>", "<s>", "</s>"])
    },
    "bos_token": "<s>",
    "eos_token": "</s>",
    "legacy": False,
    "pad_token": None,
    "tokenizer_class": "LlamaTokenizer",
    "unk_token": "<unk>",
    "chat_template": "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}",
}


def write(out: Path, model: bytes, config: dict[str, Any] | None = None) -> None:
    """A folder's SentencePiece tokenizer: tokenizer.model and tokenizer_config.json."""
    (out / "tokenizer.model").write_bytes(model)
    content = TOKENIZER_CONFIG if config is None else config
    (out / "tokenizer_config.json").write_text(json.dumps(content), encoding="utf-8")


#: A trained model of 440 pieces, the same at every run.
MODEL = Path(__file__).parent / "data" / "tokenizer.model"


def build_checkpoint(
    folder: Path, changes: Mapping[str, Any] | None = None, **options: Any
) -> Path:
    """A tiny Llama 2 with a SentencePiece tokenizer and eight rows to spare; small, so quick."""
    small = {"vocab_size": 448, "bos_token_id": 1, "eos_token_id": 2}
    builders.build_tiny_checkpoint(folder, changes={**small, **(changes or {})}, **options)
    for name in builders.tokenizer_files():
        (folder / name).unlink()
    write(folder, MODEL.read_bytes())
    return folder
