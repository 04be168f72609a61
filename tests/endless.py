"""An answer that does not end by itself before somebody cancels it."""

from __future__ import annotations

from edge_llama import Sampling

#: Without the embedded model's tokens that end an answer.
ENDLESS = Sampling(
    max_tokens=1500,
    logit_bias={"<|im_end|>": float("-inf"), "<|endoftext|>": float("-inf")},
)
