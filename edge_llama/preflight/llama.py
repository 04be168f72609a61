"""Rules for the ``llama`` architecture (Llama, Mistral, Mixtral and what was made from them).

``llama_model_llama::load_arch_tensors`` says which tensors there are, and of which shapes;
its graph asserts or assumes the rest.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..header.ggml_types import WEIGHT_TYPES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from ..header.hyperparameters import HyperParameters
    from ..header.keys import Keys
    from ..header.parser import TensorInfo

_HINT = "The file is damaged, or was made by a faulty converter; convert the checkpoint again."

#: Factors that quantised weights may have beside them: one element, or one per expert.
_SCALE = re.compile(r"\.(scale|input_scale)$")


def check_llama(keys: Keys, hparams: HyperParameters, tensors: Sequence[TensorInfo]) -> None:
    """Check that the hyper-parameters fit together, and every tensor's name, shape and type."""
    _check_shape(keys, hparams)
    given = {tensor.name: tensor for tensor in tensors}
    known = set()
    for name, shape, required in _expected(keys, hparams, given.keys()):
        known.add(name)
        tensor = given.get(name)
        if tensor is not None:
            _check_tensor(keys, tensor, shape)
        elif required:
            keys.fail(f"tensor {name} is missing", hint=_HINT)
    for name in given.keys() - known:
        if not _SCALE.search(name):
            keys.fail(f"tensor {name} does not belong to a llama model", hint=_HINT)


def _check_shape(keys: Keys, hparams: HyperParameters) -> None:
    """Check the attention's shape: heads that divide, and one shape in all layers."""
    heads, kv_heads = hparams.n_head[0], hparams.n_head_kv[0]
    if not heads or not kv_heads or heads % kv_heads:
        keys.fail(
            f"{keys.full('.attention.head_count')} = {heads:,} is no multiple of "
            f"{keys.full('.attention.head_count_kv')} = {kv_heads:,}",
            hint=_HINT,
        )
    layers = (hparams.n_head, hparams.n_head_kv, hparams.n_ff, hparams.n_expert_used)
    if any(len({*values}) > 1 for values in layers):
        keys.fail("its layers differ in shape, which no llama model does", hint=_HINT)
    if not hparams.n_ff[0]:
        keys.fail(f"key {keys.full('.feed_forward_length')} is missing or zero", hint=_HINT)
    if not hparams.key_length == hparams.value_length == hparams.n_rot or hparams.n_rot % 2:
        keys.fail(
            f"heads of {hparams.key_length:,} (keys) and {hparams.value_length:,} (values) "
            f"elements, of which {hparams.n_rot:,} are rotated, are not possible: the three must "
            "be one even number",
            hint=_HINT,
        )
    keys.real(".attention.layer_norm_rms_epsilon")


def _check_tensor(keys: Keys, tensor: TensorInfo, shape: tuple[int, ...]) -> None:
    if _strip(tensor.shape) != _strip(shape):
        keys.fail(
            f"tensor {tensor.name} has shape {list(tensor.shape)}; {list(shape)} was expected",
            hint=_HINT,
        )
    # Vectors are added and multiplied, which ggml's CPU code only does in F32.
    if tensor.type not in (WEIGHT_TYPES if len(shape) > 1 else {"F32"}):
        keys.fail(
            f"tensor {tensor.name} of {len(shape)} dimensions has type {tensor.type}", hint=_HINT
        )


def _strip(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape without ones in front, by which ggml does not tell tensors apart."""
    first = next((at for at, count in enumerate(shape) if count > 1), len(shape))
    return shape[first:]


def _expected(
    keys: Keys, hparams: HyperParameters, given: Collection[str]
) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """Yield name, row-major shape, and whether it must be there, of every tensor of the model."""
    width, vocabulary = hparams.n_embd, hparams.n_vocab
    yield "token_embd.weight", (vocabulary, width), True
    yield "output_norm.weight", (width,), True
    yield "output.weight", (vocabulary, width), False
    for name in ("rope_freqs", "rope_factors_long", "rope_factors_short"):
        yield f"{name}.weight", (hparams.n_rot // 2,), False
    for layer in range(hparams.n_layer - keys.count(".nextn_predict_layers", 0)):
        prefix = f"blk.{layer}."
        block = [*_attention(hparams, fused=f"{prefix}attn_qkv.weight" in given)]
        block += _experts(hparams) if hparams.n_expert else _feed_forward(hparams)
        for name, shape, required in block:
            yield prefix + name, shape, required


_Tensors = list[tuple[str, tuple[int, ...], bool]]


def _attention(hparams: HyperParameters, *, fused: bool) -> _Tensors:
    width, heads, kv_heads = hparams.n_embd, hparams.n_head[0], hparams.n_head_kv[0]
    queries, keys = hparams.key_length * heads, hparams.key_length * kv_heads
    values = hparams.value_length * kv_heads
    rows = {"q": queries, "k": keys, "v": values}
    if fused:
        rows["qkv"] = queries + keys + values
    inputs = ["qkv"] if fused else ["q", "k", "v"]
    return [
        ("attn_norm.weight", (width,), True),
        *((f"attn_{name}.weight", (rows[name], width), True) for name in inputs),
        *((f"attn_{name}.bias", (count,), False) for name, count in rows.items()),
        ("attn_output.weight", (width, queries), True),
        ("attn_output.bias", (width,), False),
        ("ffn_norm.weight", (width,), True),
    ]


def _feed_forward(hparams: HyperParameters) -> _Tensors:
    width, inner = hparams.n_embd, hparams.n_ff[0]
    return [
        ("ffn_gate.weight", (inner, width), True),
        ("ffn_up.weight", (inner, width), True),
        ("ffn_down.weight", (width, inner), True),
        ("ffn_gate.bias", (inner,), False),
        ("ffn_up.bias", (inner,), False),
        ("ffn_down.bias", (width,), False),
    ]


def _experts(hparams: HyperParameters) -> _Tensors:
    width, inner, experts = hparams.n_embd, hparams.n_ff[0], hparams.n_expert
    return [
        ("ffn_gate_inp.weight", (experts, width), True),
        ("ffn_gate_exps.weight", (experts, inner, width), True),
        ("ffn_up_exps.weight", (experts, inner, width), True),
        ("ffn_down_exps.weight", (experts, width, inner), True),
    ]
