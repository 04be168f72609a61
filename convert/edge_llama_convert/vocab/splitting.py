"""Recognise how a byte-level BPE splits text from tokenizer.json itself.

For tokenizers whose probe hash llama.cpp does not list (a new vocabulary changes the hash), but
whose way of splitting is one of the common ones. Only what equals a known pattern letter by
letter is recognised.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

#: The regexes of Llama 3, Qwen 2 and GPT-2 -> llama.cpp's names (llama-vocab.cpp, pre_type).
_REGEXES = {
    rf"{_ENDINGS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}": "llama-bpe",
    rf"{_ENDINGS}|{_WORDS}|\p{{N}}|{_REST}": "qwen2",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt-2",
}

#: "llama-bpe" also means that a word in the vocabulary is taken whole; this is the same regex
#: without that.
_MERGING = {"llama-bpe": "smaug-bpe"}


def recognise(tokenizer: Tokenizer) -> str | None:
    """Return llama.cpp's name for the splitting of ``tokenizer``, None when it is unknown."""
    if tokenizer.normalizer is not None or tokenizer.pre_tokenizer is None:
        return None
    name = _name(json.loads(tokenizer.pre_tokenizer.__getstate__()))
    if name == "llama-bpe" or not tokenizer.model.ignore_merges:
        return name if tokenizer.model.ignore_merges else _MERGING.get(name or "", name)
    return None


def _name(state: dict[str, Any]) -> str | None:
    steps = state["pretokenizers"] if state["type"] == "Sequence" else [state]
    *splits, last = steps
    if last["type"] != "ByteLevel" or last["add_prefix_space"]:
        return None
    if last["use_regex"]:  # GPT-2's regex, perhaps after single digits
        if not splits:
            return "gpt-2"
        digits = len(splits) == 1 and splits[0] == {"type": "Digits", "individual_digits": True}
        return "smollm" if digits else None
    if len(splits) != 1 or splits[0]["type"] != "Split":
        return None
    split = splits[0]
    if split["behavior"] != "Isolated" or split["invert"]:
        return None
    return _REGEXES.get(split["pattern"].get("Regex", ""))
