"""How many bytes llama.cpp allocates for a context: arithmetic on the header's figures.

Worked out from llama.cpp's source (the KV cache, the outputs and the bookkeeping are its own
sums; the compute buffer is what ggml-alloc needs at the worst moment of a layer) and held against
it by ``tests/test_memory_formula.py`` and ``benchmarks/memory.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config import KVCacheType
    from .facts import ModelFacts

#: Bytes per element of the KV cache; quantised types store blocks of 32 with a 2-byte scale.
_KV_BYTES = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}

#: llama.cpp rounds every context up to this many tokens.
CONTEXT_STEP = 256

_FLOAT = 4


def count_cells(n_ctx: int) -> int:
    """Return how many tokens llama.cpp makes room for when ``n_ctx`` are asked for."""
    return -(-n_ctx // CONTEXT_STEP) * CONTEXT_STEP


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The options of a context that its memory depends on.

    Attributes:
        n_ctx: context in tokens, for all sequences together.
        n_ubatch: tokens that are computed at a time.
        kv_type: type of the KV cache.
        flash_attention: whether attention works without the matrix of all scores.
        n_parallel: sequences at the same time.
        n_outputs: positions per batch whose logits are kept.
    """

    n_ctx: int
    n_ubatch: int
    kv_type: KVCacheType = "f16"
    flash_attention: bool = True
    n_parallel: int = 1
    n_outputs: int = 1

    @property
    def n_cells(self) -> int:
        """Tokens the cache has room for."""
        return count_cells(self.n_ctx)

    @property
    def n_tokens(self) -> int:
        """Tokens of the largest graph."""
        return min(self.n_ubatch, self.n_cells)


def kv_cache_bytes(facts: ModelFacts, shape: Shape, *, layers: slice = slice(None)) -> int:
    """Return the KV cache's size: cells * (key width + value width) * bytes, for each layer."""
    return int(shape.n_cells * sum(facts.kv_widths[layers]) * _KV_BYTES[shape.kv_type])


def compute_bytes(facts: ModelFacts, shape: Shape) -> int:
    """Return the size of the buffer in which graphs are computed.

    The largest of three moments, beside the graph's inputs: the feed-forward network (gate, up,
    their product, the residual, and freed blocks that nothing fits into), attention, and the
    logits. Exact for the shapes of LLaMA models.
    """
    tokens = shape.n_tokens
    width = max(facts.n_embd, facts.q_width)
    key_value = max(facts.kv_widths, default=0)
    freed, inputs = facts.q_width, input_bytes(shape)
    head = facts.q_width // facts.n_head
    if shape.kv_type != "f16" and head % 64 == 0:
        # Keys and values are rotated before they are quantised, queries too; the rotated ones
        # take the free block if they have its size.
        freed = 0 if facts.q_width == facts.n_embd else 2 * facts.q_width
        inputs += _FLOAT * (head**2 + 64**2)  # the rotations
    feed_forward = 3 * facts.n_ff + 3 * facts.n_embd + freed
    attention = 2 * facts.n_embd + 2 * facts.q_width + max(width, key_value)
    if not shape.flash_attention:
        scores = facts.n_head * shape.n_cells
        attention = scores + 3 * facts.n_embd + 2 * facts.q_width + key_value
    logits = min(tokens, shape.n_outputs) * (facts.n_vocab + 2 * facts.n_embd)
    return _FLOAT * max(tokens * max(feed_forward, attention), logits) + inputs


def input_bytes(shape: Shape) -> int:
    """Return the size of a graph's inputs: the mask, and five numbers per token."""
    mask = shape.n_cells * (2 if shape.flash_attention else _FLOAT)
    return shape.n_tokens * (mask + 6 * _FLOAT)


def output_bytes(facts: ModelFacts, shape: Shape) -> int:
    """Return the size of the logits that are kept for the sampler."""
    return _FLOAT * facts.n_vocab * max(shape.n_outputs, shape.n_parallel)


def work_bytes(facts: ModelFacts, shape: Shape) -> int:
    """Return the CPU's scratch space: a layer's widest input, in the type weights multiply with.

    Without flash attention all scores, in the type of the values. It then grows while a prompt is
    read, and the allocator keeps some of what was there before.
    """
    kinds = {kind for layer in facts.layers for kind in layer.by_type}
    width = 2 if kinds & {"F16", "BF16"} else 9 / 8  # quantised weights: Q8_0, Q8_1 or Q8_K
    widest = width * max(facts.n_ff, facts.n_embd, facts.q_width)
    if shape.flash_attention:
        return int(shape.n_tokens * widest)
    widest = max(widest, _KV_BYTES[shape.kv_type] * facts.n_head * shape.n_cells)
    size = int(shape.n_tokens * widest)
    return size + min(size, _KEPT_OF_SCRATCH)


#: Measured (``benchmarks/memory.py``): blocks that are larger than this go back to the system.
_KEPT_OF_SCRATCH = 4 * 2**20


def bookkeeping_bytes(facts: ModelFacts, shape: Shape) -> int:
    """Return what goes beside the buffers: vocabulary, graphs, cells, and Python's own growth.

    Measured (``benchmarks/memory.py --vocabularies``): 225 bytes per token of a BPE vocabulary and
    95 per merge, 165 per SentencePiece token; 75 kB of graph per layer; 150 bytes per cell; and
    what the first generation loads.
    """
    vocabulary = facts.n_vocab * (225 if facts.n_merges else 165) + facts.n_merges * 95
    graphs = facts.n_layer * 75_000
    cells = shape.n_cells * 150
    return vocabulary + graphs + cells + _LIBRARIES


def grammar_bytes(n_vocab: int) -> int:
    """Return what the first grammar adds: llguidance, and the vocabulary as it wants it.

    Measured (``benchmarks/memory.py --vocabularies``).
    """
    return 6 * 2**20 + 290 * n_vocab


def loading_bytes(facts: ModelFacts) -> int:
    """Return what only loading needs: the vocabulary a second time, as the file has it."""
    return 40 * (facts.n_vocab + facts.n_merges)


#: Code and data of the libraries that is first touched while generating.
_LIBRARIES = 4 * 2**20
