"""Merge ranks as SentencePiece scores, and a reading of them as llama.cpp reads them.

A tokenizer.json holds the order of merges; llama.cpp's SentencePiece tokenizer wants a score per
token and merges the neighbours whose union scores highest, the leftmost first.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from ..errors import TokenizerError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

#: What a character without a token of its own becomes.
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))


def check_byte_tokens(tokens: Collection[str], path: Path) -> None:
    """Refuse a vocabulary with which llama.cpp would end the process at an unknown character."""
    missing = sorted(set(BYTE_TOKENS).difference(tokens))
    if missing:
        raise TokenizerError(
            f"{path}: {len(missing)} of 256 byte tokens missing, e.g. {missing[0]}",
            hint="llama.cpp needs one for every byte (byte_fallback); this is no tokenizer of the "
            "LLaMA family, or the file is damaged.",
        )


def scores_of(tokens: Sequence[str], merges: Sequence[tuple[str, str]]) -> list[float]:
    """Return a score per token: minus the rank of the first merge that makes it.

    Tokens no merge makes (single characters) come last; they are never the result of a merge.
    """
    rank: dict[str, int] = {}
    for number, (left, right) in enumerate(merges):
        rank.setdefault(left + right, number)
    return [float(-rank.get(token, len(merges))) for token in tokens]


def encode(text: str, ids: Mapping[str, int], scores: Sequence[float]) -> list[int]:
    """Tokenise ``text`` (spaces already as U+2581) as llama.cpp's SentencePiece tokenizer does.

    Characters without a token become byte tokens ``<0xNN>``, which ``ids`` must hold.
    """
    symbols = list(text)
    after = [*range(1, len(symbols)), -1]
    before = list(range(-1, len(symbols) - 1))
    queue: list[tuple[float, int, int, str]] = []

    def offer(left: int, right: int) -> None:
        if left >= 0 and right >= 0:
            union = symbols[left] + symbols[right]
            if union in ids:
                heapq.heappush(queue, (-scores[ids[union]], left, right, union))

    for i in range(1, len(symbols)):
        offer(i - 1, i)
    while queue:
        _, left, right, union = heapq.heappop(queue)
        if not symbols[left] or not symbols[right] or symbols[left] + symbols[right] != union:
            continue
        symbols[left], symbols[right] = union, ""
        after[left] = after[right]
        if after[right] >= 0:
            before[after[right]] = left
        offer(before[left], left)
        offer(left, after[left])
    result: list[int] = []
    for symbol in filter(None, symbols):
        if symbol in ids:
            result.append(ids[symbol])
        else:
            result += [ids[BYTE_TOKENS[byte]] for byte in symbol.encode()]
    return result
