"""Messages -> token ids, such that no message can forge a control token.

A rendered prompt is tokenised with special tokens on, because the template's ``<|im_start|>``
must become that token. A message that contains the same characters must not: it could end its
turn and speak as the system.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .template import ChatTemplate
    from .tokenmemory import Tokenizer, TokenMemory


def chat_tokens(
    memory: TokenMemory,
    template: ChatTemplate,
    messages: Sequence[Mapping[str, str]],
    *,
    bos: str,
    add_generation_prompt: bool = True,
) -> list[int]:
    """Render ``messages`` and tokenise the result; only the template makes control tokens.

    ``bos`` is the text of the BOS token: a template that writes it itself gets no second one.
    """
    stand_ins: dict[str, str] = {}
    if any(memory.has_special(message["content"]) for message in messages):
        messages, stand_ins = _replace_specials(memory.tokenizer, messages)
    text = template.render(messages, add_generation_prompt=add_generation_prompt)
    add_special = not (bos and text.startswith(bos))
    if not stand_ins:
        return memory.tokenize(text, add_special=add_special)
    tokens: list[int] = []
    for part, is_stand_in in _split(text, stand_ins):
        if is_stand_in:
            harmless = stand_ins[part]
            tokens += memory.tokenizer.tokenize(
                harmless, add_special=add_special and not tokens, parse_special=False
            )
        else:
            tokens += memory.tokenize(part, add_special=add_special and not tokens)
    return tokens


def least_tokens(tokenizer: Tokenizer, text: str) -> int:
    """Return how many tokens ``text`` has at least, without tokenising it.

    White space does not count: around control tokens some tokenizers take it away.
    """
    longest = tokenizer.longest_piece
    size = len("".join(text.split()).encode("utf-8", errors="replace"))
    return -(-size // longest) if longest else 0


def _replace_specials(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]]
) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Put a private-use character in place of each control token's text in the messages.

    Returns the messages and what each character stands for.
    """
    everything = "".join(message["content"] for message in messages)
    texts = sorted({text for text in tokenizer.special_texts().values() if text}, key=len)
    used = [text for text in texts if text in everything]
    free = (chr(code) for code in range(0xF0000, 0xFFFFE) if chr(code) not in everything)
    by_text = dict(zip(used, free, strict=False))
    pattern = re.compile("|".join(re.escape(text) for text in reversed(used)))
    guarded = [
        {**message, "content": pattern.sub(lambda match: by_text[match[0]], message["content"])}
        for message in messages
    ]
    return guarded, {stand_in: text for text, stand_in in by_text.items()}


def _split(text: str, stand_ins: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    """Yield the parts of ``text`` in order, and whether each is a stand-in."""
    for part in re.split(f"([{''.join(stand_ins)}])", text):
        if part:
            yield part, part in stand_ins
