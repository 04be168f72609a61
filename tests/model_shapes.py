"""GGUF files in the shape of well-known models, without weights: sparse, so they cost no disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

from edge_llama.memory import ModelFacts, Weights

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class ModelShape:
    """The hyper-parameters of a LLaMA: widths in elements, counts."""

    n_embd: int
    n_ff: int
    n_layer: int
    n_head: int
    n_head_kv: int
    head: int
    n_vocab: int
    n_expert: int = 0
    n_expert_used: int = 0

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Row-major shapes of a Q4_0 model's matrices and norms; the embeddings are tied."""
        width, inner = self.n_embd, self.n_ff
        heads, kv = self.n_head * self.head, self.n_head_kv * self.head
        shapes: dict[str, tuple[int, ...]] = {
            "token_embd": (self.n_vocab, width),
            "output_norm": (width,),
        }
        experts = (self.n_expert,) if self.n_expert else ()
        suffix = "_exps" if experts else ""
        for i in range(self.n_layer):
            shapes |= {
                f"blk.{i}.attn_norm": (width,),
                f"blk.{i}.ffn_norm": (width,),
                f"blk.{i}.attn_q": (heads, width),
                f"blk.{i}.attn_k": (kv, width),
                f"blk.{i}.attn_v": (kv, width),
                f"blk.{i}.attn_output": (width, heads),
                f"blk.{i}.ffn_gate{suffix}": (*experts, inner, width),
                f"blk.{i}.ffn_up{suffix}": (*experts, inner, width),
                f"blk.{i}.ffn_down{suffix}": (*experts, width, inner),
            }
            if experts:
                shapes[f"blk.{i}.ffn_gate_inp"] = (self.n_expert, width)
        return shapes

    def facts(self) -> ModelFacts:
        """What a plan needs to know of it."""
        sizes = {name: _nbytes(name, shape) for name, shape in self.tensors().items()}
        layer = sum(size for name, size in sizes.items() if name.startswith("blk.0."))
        embedding = Weights(nbytes=sizes["token_embd"], by_type={"Q4_0": sizes["token_embd"]})
        return ModelFacts(
            n_embd=self.n_embd,
            n_ff=self.n_ff * max(self.n_expert_used, 1),
            q_width=self.n_head * self.head,
            n_head=self.n_head,
            kv_widths=(2 * self.n_head_kv * self.head,) * self.n_layer,
            n_vocab=self.n_vocab,
            n_merges=self.n_vocab,
            n_ctx_train=131072,
            input=embedding,
            layers=(Weights(nbytes=layer, by_type={"Q4_0": layer}),) * self.n_layer,
            output=embedding,
            tied=True,
        )

    def write(self, path: Path) -> Path:
        """Write the header, and a hole where the weights would be."""
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_block_count(self.n_layer)
        writer.add_context_length(131072)
        writer.add_embedding_length(self.n_embd)
        writer.add_feed_forward_length(self.n_ff)
        writer.add_head_count(self.n_head)
        writer.add_head_count_kv(self.n_head_kv)
        writer.add_key_length(self.head)
        writer.add_value_length(self.head)
        writer.add_rope_dimension_count(self.head)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_vocab_size(self.n_vocab)
        if self.n_expert:
            writer.add_expert_count(self.n_expert)
            writer.add_expert_used_count(self.n_expert_used)
        writer.add_tokenizer_model("no_vocab")
        total = 0
        for name, shape in self.tensors().items():
            size = _nbytes(name, shape)
            writer.add_tensor_info(
                f"{name}.weight", shape, np.dtype(np.float32), size, raw_dtype=_type(name)
            )
            total += -(-size // 32) * 32
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        os.truncate(path, -(-path.stat().st_size // 32) * 32 + total)
        return path


def _type(name: str) -> Q:
    return Q.F32 if name.endswith(("norm", "gate_inp")) else Q.Q4_0


def _nbytes(name: str, shape: tuple[int, ...]) -> int:
    elements, size = gguf.GGML_QUANT_SIZES[_type(name)]
    return int(np.prod(shape)) // elements * size


SHAPES = {
    "SmolLM2-135M": ModelShape(576, 1536, 30, 9, 3, 64, 49152),
    "TinyLlama-1.1B": ModelShape(2048, 5632, 22, 32, 4, 64, 32000),
    "Llama-3.2-3B": ModelShape(3072, 8192, 28, 24, 8, 128, 128256),
    "Llama-2-7B": ModelShape(4096, 11008, 32, 32, 32, 128, 32000),
    "Mistral-Nemo": ModelShape(5120, 14336, 40, 32, 8, 128, 131072),
    "Mixtral-8x7B": ModelShape(4096, 14336, 32, 32, 8, 128, 32000, 8, 2),
}
