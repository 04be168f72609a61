"""Special token ids, what is added around a text, and chat templates.

``gguf.SpecialVocab`` reads them. Its release 0.19 differs from the one that the pinned llama.cpp
carries in how it reads the post-processor of tokenizer.json; that part is done here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import gguf

from ..errors import TokenizerError
from .templates import named_templates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..checkpoint import Checkpoint

# It warns about templates that every Llama 2 has; seen only where logging is set up.
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


def read_special(checkpoint: Checkpoint, vocab_size: int, *, merges: bool) -> gguf.SpecialVocab:
    """Read the special tokens and chat templates of ``checkpoint``.

    ``merges`` asks for the BPE merges as well. Ids beyond ``vocab_size`` are left out.

    Raises:
        TokenizerError: tokenizer.json or tokenizer_config.json is damaged.
    """
    try:
        special = gguf.SpecialVocab(checkpoint.path, load_merges=merges, n_vocab=vocab_size)
        tokenizer = checkpoint.optional_json("tokenizer.json")
        config = checkpoint.optional_json("tokenizer_config.json")
        _apply_post_processor(special, tokenizer, config, vocab_size)
        named_templates(special.chat_template)  # only to find damage here
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise TokenizerError(
            f"{checkpoint.path}: tokenizer.json or tokenizer_config.json is damaged ({error})",
            hint=FETCH,
        ) from error
    return special


def _apply_post_processor(
    special: gguf.SpecialVocab,
    tokenizer: Mapping[str, Any],
    config: Mapping[str, Any],
    vocab_size: int,
) -> None:
    post = tokenizer.get("post_processor") or {}
    flags: dict[str, bool] = {}
    for processor in post.get("processors", [post]):
        kind = processor.get("type")
        if kind == "ByteLevel":
            flags.setdefault("bos", False)
            flags.setdefault("eos", False)
        elif kind == "RobertaProcessing":
            flags.update(bos=True, eos=True)
        elif kind == "TemplateProcessing":
            first, last = _ends(processor.get("single", []))
            bos, cls = (_content(config.get(f"{role}_token")) for role in ("bos", "cls"))
            if first:
                flags["bos"] = not (bos and cls) or first in {bos, cls}
                if config and not (bos or cls):
                    _set_bos(special, tokenizer, first, vocab_size)
            if last:
                flags["eos"] = True
    # The post-processor is what really runs; add_bos_token in the configuration comes second.
    special.add_special_token = {**special.add_special_token, **flags}
    order = [*flags, *(role for role in special.add_special_token if role not in flags)]
    special.add_special_token = {role: special.add_special_token[role] for role in order}


def _ends(template: Sequence[Mapping[str, Any]]) -> tuple[str | None, str | None]:
    """Return the special tokens that a template puts before and after the text."""
    if len(template) < 2:
        return None, None
    first, last = (template[i].get("SpecialToken", {}).get("id") for i in (0, -1))
    return first, last


def _content(entry: object) -> object:
    return entry.get("content") if isinstance(entry, dict) else entry


def _set_bos(
    special: gguf.SpecialVocab, tokenizer: Mapping[str, Any], text: str, vocab_size: int
) -> None:
    for added in tokenizer.get("added_tokens", []):
        if added.get("content") == text and 0 <= added.get("id", -1) < vocab_size:
            ids = {**special.special_token_ids, "bos": added["id"]}
            special.special_token_ids = {"bos": ids.pop("bos"), **ids}
            return


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
    special: gguf.SpecialVocab,
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
    taken = {special.special_token_ids.get(role) for role in roles}
    numbers = [end for end in ends if isinstance(end, int) and not isinstance(end, bool)]
    unknown = [
        token
        for token in dict.fromkeys(numbers)
        if 0 <= token < len(tokens)
        and token not in taken
        and types[token] == gguf.TokenType.CONTROL
        and tokens[token] not in _KNOWN_ENDS
    ]
    free = [role for role in roles[1:] if role not in special.special_token_ids]
    return dict(zip(free, unknown, strict=False))
