"""Small random models as GGUF files, built without the converter."""

from __future__ import annotations

import numpy as np
from ggufs import GGUF, TYPE_NUMBERS, Tensor

WIDTH, INNER, LAYERS, HEADS, KV_HEADS = 64, 96, 2, 4, 2


def small_llama(vocabulary: str = "bpe", *, experts: int = 0) -> GGUF:
    """A random llama model of some 100 kB; ``vocabulary`` is "bpe" or "spm"."""
    model = GGUF([], [])
    for name, kind, value in (
        ("general.architecture", "str", "llama"),
        ("general.name", "str", "small"),
        ("llama.block_count", "u32", LAYERS),
        ("llama.context_length", "u32", 512),
        ("llama.embedding_length", "u32", WIDTH),
        ("llama.feed_forward_length", "u32", INNER),
        ("llama.attention.head_count", "u32", HEADS),
        ("llama.attention.head_count_kv", "u32", KV_HEADS),
        ("llama.attention.layer_norm_rms_epsilon", "f32", 1e-5),
        ("llama.rope.dimension_count", "u32", WIDTH // HEADS),
        ("llama.rope.freq_base", "f32", 10000.0),
    ):
        model.set(name, kind, value)
    if experts:
        model.set("llama.expert_count", "u32", experts)
        model.set("llama.expert_used_count", "u32", 2)
    n_vocab = _add_bpe(model) if vocabulary == "bpe" else _add_spm(model)
    rng = np.random.default_rng(5)
    kv = WIDTH // HEADS * KV_HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (WIDTH, n_vocab),
        "output_norm.weight": (WIDTH,),
        "rope_freqs.weight": (WIDTH // HEADS // 2,),
    }
    for layer in range(LAYERS):
        ffn: dict[str, tuple[int, ...]] = {
            "ffn_gate": (WIDTH, INNER),
            "ffn_up": (WIDTH, INNER),
            "ffn_down": (INNER, WIDTH),
        }
        if experts:
            ffn = {f"{name}_exps": (*shape, experts) for name, shape in ffn.items()}
            ffn["ffn_gate_inp"] = (WIDTH, experts)
        for name, shape in {
            "attn_norm": (WIDTH,),
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (WIDTH, kv),
            "attn_v": (WIDTH, kv),
            "attn_output": (WIDTH, WIDTH),
            "ffn_norm": (WIDTH,),
            **ffn,
        }.items():
            shapes[f"blk.{layer}.{name}.weight"] = shape
    for name, shape in shapes.items():
        values = rng.normal(0, 0.05, shape[::-1])
        values = values.astype(np.float32 if len(shape) == 1 else np.float16)
        number = TYPE_NUMBERS["F32" if len(shape) == 1 else "F16"]
        model.tensors.append(Tensor(name.encode(), shape, number, values.tobytes()))
    return model


def with_vocabulary_of(other: GGUF) -> GGUF:
    """The small model with another's tokenizer; its embedding is all zeros, in Q4_0."""
    model = small_llama()
    model.keys = [key for key in model.keys if not key.name.startswith(b"tokenizer.")]
    model.keys += [key for key in other.keys if key.name.startswith(b"tokenizer.")]
    count = len(model.strings("tokenizer.ggml.tokens"))
    size = WIDTH // 32 * 18 * count
    model.tensors[0] = Tensor(
        b"token_embd.weight", (WIDTH, count), TYPE_NUMBERS["Q4_0"], bytes(size)
    )
    return model


def _add_bpe(model: GGUF) -> int:
    """Byte-level BPE: 256 characters, merges of two of them, and control tokens."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    characters = [chr(byte) for byte in own] + [chr(256 + n) for n in range(256 - len(own))]
    pairs = [(a, b) for a in "etaoin" for b in "shrdlu"]
    tokens = [*characters, *(a + b for a, b in pairs), "<|im_start|>", "<|im_end|>"]
    count = len(tokens)
    model.set("tokenizer.ggml.model", "str", "gpt2")
    model.set("tokenizer.ggml.pre", "str", "smollm")
    model.set("tokenizer.ggml.tokens", "arr[str]", tokens)
    model.set("tokenizer.ggml.token_type", "arr[i32]", [1] * (count - 2) + [3, 3])
    model.set("tokenizer.ggml.merges", "arr[str]", [f"{a} {b}" for a, b in pairs])
    model.set("tokenizer.ggml.bos_token_id", "u32", count - 2)
    model.set("tokenizer.ggml.eos_token_id", "u32", count - 1)
    model.set("tokenizer.ggml.add_bos_token", "bool", value=False)
    model.set("tokenizer.chat_template", "str", "{{ messages[0]['content'] }}")
    return count


def _add_spm(model: GGUF) -> int:
    """SentencePiece: control tokens, bytes, and words with scores."""
    words = ["\u2581" + word for word in ("the", "a", "of", "moon", "is")] + [*"abcdefghijklmno"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    types = [2, 3, 3] + [6] * 256 + [1] * len(words)
    model.set("tokenizer.ggml.model", "str", "llama")
    model.set("tokenizer.ggml.pre", "str", "default")
    model.set("tokenizer.ggml.tokens", "arr[str]", tokens)
    model.set("tokenizer.ggml.scores", "arr[f32]", [-float(i) for i in range(len(tokens))])
    model.set("tokenizer.ggml.token_type", "arr[i32]", types)
    model.set("tokenizer.ggml.bos_token_id", "u32", 1)
    model.set("tokenizer.ggml.eos_token_id", "u32", 2)
    model.set("tokenizer.ggml.unknown_token_id", "u32", 0)
    return len(tokens)
