"""Special token ids, what is added around a text, and chat templates.

The rules are those of ``SpecialVocab`` in the llama.cpp that results are compared with
(gguf-py/gguf/vocab.py). The release of ``gguf`` on PyPI reads the post-processor otherwise, and
would parse tokenizer.json, the largest of the small files, a second time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gguf

from ..errors import TokenizerError
from .templates import named_templates, read_templates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..checkpoint import Checkpoint

# gguf warns about what many checkpoints have; seen only where logging is set up.
logging.getLogger("gguf").addHandler(logging.NullHandler())

FETCH = "Download the tokenizer files of the same checkpoint again."

#: convert_hf_to_gguf.py turns BOS off for this vocabulary size (Granite, SmolLM2).
_SIZE_WITHOUT_BOS = 49152

#: Vocabulary size by which convert_hf_to_gguf.py knows CodeLlama, and its end of infilled text.
_CODE_LLAMA_SIZE, _CODE_LLAMA_EOT = 32016, 32010

#: Texts that llama.cpp takes for the end of a generation without being told (llama-vocab.cpp).
_KNOWN_END_TEXTS = (
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> "
    "<|endoftext|> </s> <|eom_id|> <EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> "
    "<eos> <turn|> <|tool_response> <\uff5cend\u2581of\u2581sentence\uff5c> [e~["
)
_KNOWN_ENDS = frozenset(_KNOWN_END_TEXTS.split())

_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


@dataclass
class SpecialTokens:
    """Special tokens by their role, in the order the keys are written.

    Attributes:
        ids: token ids by role, e.g. ``{"bos": 1}``.
        add: whether the tokenizer puts the token of a role around a text.
        templates: chat templates by name.
    """

    ids: dict[str, int] = field(default_factory=dict)
    add: dict[str, bool] = field(default_factory=dict)
    templates: dict[str, str] = field(default_factory=dict)


def read_special(
    checkpoint: Checkpoint, tokenizer: Mapping[str, Any], vocab_size: int
) -> SpecialTokens:
    """Read the special tokens and chat templates of ``checkpoint``.

    ``tokenizer`` is the content of tokenizer.json, {} without it. Ids beyond ``vocab_size`` are
    left out.

    Raises:
        TokenizerError: tokenizer.json or tokenizer_config.json is damaged.
    """
    try:
        config = dict(checkpoint.optional_json("tokenizer_config.json"))
        special, roles = SpecialTokens(), list(_ROLES)
        if tokenizer:
            _apply_post_processor(special, roles, tokenizer, config)
        if config:
            special.templates = named_templates(read_templates(checkpoint.path, config))
            _read_roles(special, roles, tokenizer.get("added_tokens") or [], config, vocab_size)
        root = checkpoint.optional_json("config.json")
        for role in roles:
            number = root.get(f"{role}_token_id")
            if number != -1:  # as early configurations say that there is none
                _set_id(special, role, number, vocab_size)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
        raise TokenizerError(
            f"{checkpoint.path}: tokenizer.json or tokenizer_config.json is damaged ({error})",
            hint=FETCH,
        ) from error
    return special


def _set_id(special: SpecialTokens, role: str, number: object, vocab_size: int) -> None:
    if not isinstance(number, int) or isinstance(number, bool):
        return
    if number < 0:
        raise ValueError(f"{role} token id {number}")
    if number < vocab_size:
        special.ids.setdefault(role, number)


def _read_roles(
    special: SpecialTokens,
    roles: Sequence[str],
    added_tokens: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
    vocab_size: int,
) -> None:
    for role in roles:
        adds = config.get(f"add_{role}_token")
        if isinstance(adds, bool):  # the post-processor is what really runs, so it comes first
            special.add.setdefault(role, adds)
        entry = config.get(f"{role}_token")
        text = entry.get("content") if isinstance(entry, dict) else entry
        if isinstance(text, str):
            ids = (token.get("id") for token in added_tokens if token.get("content") == text)
            _set_id(special, role, next(ids, None), vocab_size)


def _apply_post_processor(
    special: SpecialTokens,
    roles: list[str],
    tokenizer: Mapping[str, Any],
    config: dict[str, Any],
) -> None:
    """Take from the post-processor what is added; ``config`` and ``roles`` get what it implies."""
    for role, stand_in in (("bos", "cls"), ("eos", "sep")):
        if not config.get(f"{role}_token") and config.get(f"{stand_in}_token"):
            config[f"{role}_token"] = config[f"{stand_in}_token"]
    stated = bool(config)
    names = {role: config.get(f"{role}_token") for role in ("bos", "eos", "cls", "sep")}
    post = tokenizer.get("post_processor") or {}
    for processor in post.get("processors", [post]):
        kind = processor.get("type")
        if kind == "ByteLevel":
            special.add.setdefault("bos", False)
            special.add.setdefault("eos", False)
        elif kind == "RobertaProcessing":
            special.add.update(bos=True, eos=True, sep=True)
            for role, fallback in (("cls", "bos"), ("sep", "eos")):
                if not names[role] and stated:
                    names[role] = processor.get(role, [names[fallback]])[0]
        elif kind == "TemplateProcessing":
            _apply_template(special, roles, processor, names, config)
    if stated:
        config.update({f"{role}_token": text for role, text in names.items() if text})


def _apply_template(
    special: SpecialTokens,
    roles: list[str],
    processor: Mapping[str, Any],
    names: dict[str, Any],
    config: dict[str, Any],
) -> None:
    single = processor.get("single", [])
    first, last = (_special_id(single[at]) if len(single) > 1 else None for at in (0, -1))
    if first:
        if not config:
            names["bos"] = first
        elif first not in (names["bos"], names["cls"]):
            names["bos"] = names["bos"] or first
            names["cls"] = names["cls"] or first
        special.add["bos"] = first in (names["bos"], names["cls"])
    if last:
        if config and last != names["eos"]:  # what was called the end before still ends a turn
            role = next((role for role in ("eot", "eom") if role not in roles), None)
            if role:
                roles.append(role)
                config[f"{role}_token"] = names["eos"]
        names["eos"] = last
        special.add["eos"] = True
    between = _between(processor.get("pair", []), first, last)
    if between:
        ends = (names["sep"], names["eos"])
        adds = bool(between[0]) and between[0] in ends and not last
        if len(between) == 2:
            adds = adds or (bool(between[1]) and between[1] in ends)
        special.add["sep"] = adds
        if adds and not names["sep"]:
            names["sep"] = names["eos"]


def _between(
    pair: Sequence[Mapping[str, Any]], first: str | None, last: str | None
) -> list[str | None]:
    """Return the special tokens that a template puts between two texts."""
    begin = 1 if pair and first and _special_id(pair[0]) == first else 0
    end = len(pair) - 1 if pair and last and _special_id(pair[-1]) == last else len(pair)
    inner = pair[begin:end]
    if not inner or [part.get("Sequence", {}).get("id") for part in (inner[0], inner[-1])] != [
        "A",
        "B",
    ]:
        return []
    return [_special_id(part) for part in inner[1:-1]]


def _special_id(part: Mapping[str, Any]) -> str | None:
    value: str | None = part.get("SpecialToken", {}).get("id")
    return value


def space_prefix(checkpoint: Checkpoint) -> bool | None:
    """Return ``add_prefix_space`` of tokenizer_config.json, None when it does not say."""
    value = checkpoint.optional_json("tokenizer_config.json").get("add_prefix_space")
    if value is not None and not isinstance(value, bool):
        raise TokenizerError(
            f"{checkpoint.path / 'tokenizer_config.json'}: add_prefix_space = {value!r}, "
            "not true or false",
            hint=FETCH,
        )
    return value


def bos_override(vocab_size: int) -> bool | None:
    """Return what convert_hf_to_gguf.py writes for add_bos whatever the files say, or None."""
    return False if vocab_size == _SIZE_WITHOUT_BOS else None


def extra_ids(
    checkpoint: Checkpoint,
    special: SpecialTokens,
    tokens: Sequence[str],
    types: Sequence[int],
) -> dict[str, int]:
    """Return the ids under which further tokens end a generation, by role ("eot", "eom").

    ``eos_token_id`` may be a list, of which GGUF's EOS holds one. llama.cpp knows the usual
    others by their text; control tokens it does not know are named here, as many as there are
    keys for.
    """
    if len(tokens) == _CODE_LLAMA_SIZE:
        return {"eot": _CODE_LLAMA_EOT}
    ends: list[object] = []
    for source in (checkpoint.optional_json("generation_config.json"), checkpoint.config):
        value = source.get("eos_token_id")
        ends += value if isinstance(value, list) else [value]
    roles = ("eos", "eot", "eom")
    taken = {special.ids.get(role) for role in roles}
    numbers = [end for end in ends if isinstance(end, int) and not isinstance(end, bool)]
    unknown = [
        token
        for token in dict.fromkeys(numbers)
        if 0 <= token < len(tokens)
        and token not in taken
        and types[token] == gguf.TokenType.CONTROL
        and tokens[token] not in _KNOWN_ENDS
    ]
    free = [role for role in roles[1:] if role not in special.ids]
    return dict(zip(free, unknown, strict=False))
