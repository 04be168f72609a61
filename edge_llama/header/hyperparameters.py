"""The hyper-parameters in a GGUF's metadata, typed and with llama.cpp's defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .keys import Keys

#: llama.cpp's LLAMA_MAX_LAYERS and LLAMA_MAX_EXPERTS; with more it ends the process.
MAX_LAYERS = 512
MAX_EXPERTS = 1024


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How positions are stretched beyond what the model was first trained on.

    ``type`` is "none", "linear", "yarn" or "longrope"; a ``factor`` of 1 changes nothing. Llama 3's
    scaling is no type of its own: it is in the tensor ``rope_freqs.weight``. Queries and keys are
    multiplied with ``attention_factor``, beside what the type does.
    """

    type: str
    factor: float
    original_context: int
    attention_factor: float = 1.0


@dataclass(frozen=True, kw_only=True)
class HyperParameters:
    """The shape of a model.

    Attributes:
        n_layer: transformer layers, those that only predict further tokens included.
        n_ctx_train: context it was trained on, in tokens.
        n_embd: width of the hidden state.
        n_vocab: tokens in the vocabulary.
        n_head: query heads of each layer; zeros in layers without attention.
        n_head_kv: key/value heads of each layer.
        n_ff: width of each layer's feed-forward network (of one expert, if it has experts).
        key_length: width of a key head; zero without attention.
        value_length: width of a value head.
        n_rot: how many elements of a head are rotated by the position.
        n_swa: sliding window in tokens as the file says; 0 for none. llama.cpp ignores it in the
            "llama" architecture.
        n_expert: experts per layer; 0 in a dense model.
        n_expert_used: experts of each layer that compute a token.
        rope_freq_base: theta of the rotary positions.
        rope_scaling: how they are stretched.
    """

    n_layer: int
    n_ctx_train: int
    n_embd: int
    n_vocab: int
    n_head: tuple[int, ...]
    n_head_kv: tuple[int, ...]
    n_ff: tuple[int, ...]
    key_length: int
    value_length: int
    n_rot: int
    n_swa: int
    n_expert: int
    n_expert_used: tuple[int, ...]
    rope_freq_base: float
    rope_scaling: RopeScaling

    @property
    def kv_widths(self) -> tuple[int, ...]:
        """Elements of a key and a value together, per layer and token: what the cache holds."""
        return tuple(heads * (self.key_length + self.value_length) for heads in self.n_head_kv)


def read_hyperparameters(keys: Keys) -> HyperParameters:
    """Read them as llama.cpp's ``load_hparams`` does for every architecture.

    Raises:
        ModelFileError: one is missing, of another type, or beyond llama.cpp's bounds.
    """
    n_layer = keys.count(".block_count")
    if not 1 <= n_layer <= MAX_LAYERS:
        keys.fail(f"key {keys.full('.block_count')} = {n_layer:,} is not within 1 to {MAX_LAYERS}")
    n_embd, n_ctx_train = keys.count(".embedding_length"), keys.count(".context_length")
    for name, value in ((".embedding_length", n_embd), (".context_length", n_ctx_train)):
        if not 1 <= value < 2**31:
            keys.fail(f"key {keys.full(name)} = {value:,} is not possible")
    none = (0,) * n_layer
    n_head = keys.per_layer(".attention.head_count", n_layer, none)
    head = n_embd // n_head[0] if n_head[0] else 0
    key_length = keys.count(".attention.key_length", head) if n_head[0] else 0
    window, factor = ".attention.sliding_window", ".rope.scaling.factor"
    return HyperParameters(
        n_layer=n_layer,
        n_ctx_train=n_ctx_train,
        n_embd=n_embd,
        n_vocab=_n_vocab(keys),
        n_head=n_head,
        n_head_kv=keys.per_layer(".attention.head_count_kv", n_layer, n_head),
        n_ff=keys.per_layer(".feed_forward_length", n_layer, none),
        key_length=key_length,
        value_length=keys.count(".attention.value_length", head) if n_head[0] else 0,
        n_rot=keys.count(".rope.dimension_count", key_length),
        # Only some architectures read it, so another type is no fault.
        n_swa=keys.count(window) if keys.kind(window) == "u32" else 0,
        n_expert=keys.count(".expert_count", 0),
        n_expert_used=keys.per_layer(".expert_used_count", n_layer, none),
        rope_freq_base=keys.real(".rope.freq_base", 10000.0),
        rope_scaling=RopeScaling(
            type=keys.text(".rope.scaling.type", "linear"),
            factor=keys.real(factor, keys.real(".rope.scale_linear", 0.0)) or 1.0,
            original_context=keys.count(".rope.scaling.original_context_length", n_ctx_train),
            attention_factor=keys.real(".rope.scaling.attn_factor", 1.0),
        ),
    )


def _n_vocab(keys: Keys) -> int:
    tokens = "tokenizer.ggml.tokens"
    if not keys.has(tokens):
        keys.fail(
            f"it holds no tokenizer (key {tokens})",
            hint="This may be a projector or an adapter rather than a model; name the model file.",
        )
    if keys.kind(tokens) != "arr[str]":
        keys.fail(f"key {tokens} is {keys.kind(tokens)}, not arr[str]")
    count = len(keys.header.arrays[tokens])
    if not count:
        keys.fail(f"key {tokens} holds no tokens")
    return count
