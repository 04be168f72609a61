"""Random checkpoints in the shape of well-known models, for timing; the tokenizer is a real one."""

from __future__ import annotations

import json
import math
import shutil
from itertools import chain, count, product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

#: TinyLlama-1.1B's shape, and half of Llama-3.1-8B's layers.
SHAPES: dict[str, dict[str, Any]] = {
    "1.1b": {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
    },
    "8b-half": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
}

#: Elements of the pool that all weights are cut from; random numbers are slow to draw.
_POOL = 1 << 24


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    kv = width // config["num_attention_heads"] * config["num_key_value_heads"]
    vocabulary = (config["vocab_size"], width)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": vocabulary,
        "lm_head.weight": vocabulary,
        "model.norm.weight": (width,),
    }
    for layer in range(config["num_hidden_layers"]):
        for name, shape in {
            "self_attn.q_proj": (width, width),
            "self_attn.k_proj": (kv, width),
            "self_attn.v_proj": (kv, width),
            "self_attn.o_proj": (width, width),
            "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
            "input_layernorm": (width,),
            "post_attention_layernorm": (width,),
        }.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    return shapes


def _grow_tokenizer(document: dict[str, Any], size: int) -> None:
    """Enlarge a byte-level BPE to ``size`` tokens, as costly to read as a real one of that size.

    The new tokens have a space inside, where text is always split: none ever occurs, and the text
    by which converters recognise the tokenizer is encoded as before.
    """
    vocab, merges = document["model"]["vocab"], document["model"]["merges"]
    known = [text for text in vocab if text[0] == "Ġ" and text[1:].isalpha() and len(text) < 5]
    words = known[:16]  # all their sequences, so that most tokens can be made in several ways
    sequences = chain.from_iterable(product(words, repeat=length) for length in count(2))
    while len(vocab) < size:
        sequence = next(sequences)
        if "".join(sequence) in vocab:
            continue
        vocab["".join(sequence)] = len(vocab)
        for cut in range(1, len(sequence)):
            merges.append(["".join(sequence[:cut]), "".join(sequence[cut:])])


def build(name: str, tokenizer_from: Path, out: Path) -> Path:
    """Write a bfloat16 checkpoint of the shape ``name`` to ``out``, unless it is there."""
    if (out / "model.safetensors").is_file():
        return out
    out.mkdir(parents=True)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (tokenizer_from / file).is_file():
            shutil.copyfile(tokenizer_from / file, out / file)
    source = json.loads((tokenizer_from / "config.json").read_text(encoding="utf-8"))
    config = {**source, **SHAPES[name], "tie_word_embeddings": False, "head_dim": None}
    if config["vocab_size"] > source["vocab_size"]:
        document = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
        _grow_tokenizer(document, config["vocab_size"])
        merges = [" ".join(merge) for merge in document["model"]["merges"]]
        document["model"]["merges"] = merges
        (out / "tokenizer.json").write_text(
            json.dumps(document, ensure_ascii=False), encoding="utf-8"
        )
    (out / "config.json").write_text(json.dumps(config), encoding="utf-8")
    rng = np.random.default_rng(0)
    pool = (rng.normal(0, 0.02, _POOL).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    shapes, header, end = _shapes(config), {}, 0
    for tensor, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    partial = out / "partial"
    with partial.open("wb") as data:
        data.write(len(raw).to_bytes(8, "little") + raw)
        for shape in shapes.values():
            left = math.prod(shape)
            while left:
                start = int(rng.integers(_POOL // 2))
                part = pool[start : start + left]
                data.write(part.tobytes())
                left -= len(part)
    partial.replace(out / "model.safetensors")
    return out
