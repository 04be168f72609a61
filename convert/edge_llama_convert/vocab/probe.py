"""Texts on which two readings of one tokenizer must agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .pretokenizer import PROBE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokenizers import Tokenizer

#: Prose, code, numbers, scripts, emoji, white space, contractions, control tokens.
PROBES = (
    "The quick brown fox jumps over the lazy dog, again and again and again.",
    PROBE,
    "def fibonacci(n: int) -> int:\n    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)",
    "\t\tif (a[i] != b->c) { return 0x7fff; }  // done\r\n",
    "3.14159 1,000,000 2026-11-22 00:00:01 1e-9 v0.3.36 127.0.0.1",
    "It's we'll they've I'D you'RE O'Neill 'quoted'",
    "naïve café, Ångström, übergroß, 'œuvre' — “quotes” … ½ €100",
    "東京は日本の首都です。我喜欢机器学习。서울은 크다",
    "Привет, мир! Γειά σου Κόσμε. שלום עולם مرحبا بالعالم नमस्ते",  # noqa: RUF001 - Greek on purpose
    "🙂👩‍👩‍👧‍👦🇫🇷 e\u0301 \u200b\u00a0|\u3000|",
    "   leading,  double   and trailing   ",
    "\n\n\n \n\t\n",
    '{"name": "Titan", "moons": [1, 2.5, null], "ok": true}',
    "https://example.org/a/b?c=d&e=%20f#g user@example.org",
    "ALL CAPS mixedCase snake_case kebab-case CamelCaseHTTPServer",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
)


def encode_plainly(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the ids of a text, with nothing added around it."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def encode_probes(encode: Callable[[str], Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Return the ids of every probe text; ``encode`` adds nothing around a text."""
    return tuple(tuple(encode(text)) for text in PROBES)
