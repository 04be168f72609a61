"""Tokens that were added to a tokenizer after its training."""

from __future__ import annotations

#: Score that llama.cpp's converter gives to added tokens; merging never considers them.
ADDED_SCORE = -1000.0

#: Score of rows of the embedding that no token uses.
PADDING_SCORE = -10000.0


def looks_special(text: str) -> bool:
    """Recognise control tokens that checkpoints forgot to mark (as convert_hf_to_gguf.py does)."""
    return (
        text in {"<pad>", "<mask>", "<2mass>", "[@BOS@]"}
        or (text.startswith("<|") and text.endswith("|>"))
        or (text.startswith("<\uff5c") and text.endswith("\uff5c>"))
        or (text.startswith("<unused") and text.endswith(">"))
    )


def user_defined(text: str) -> str:
    """Return a user-defined token as llama.cpp looks for it: in the text before normalisation."""
    return text.replace("\u2581", " ")
