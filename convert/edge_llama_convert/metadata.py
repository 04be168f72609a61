"""The GGUF's key/value metadata, in the order llama.cpp's two steps leave it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import gguf

from .errors import ConvertError, SourceError
from .modelcard import read_card
from .rotation import magnitude, rotation_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .checkpoint import Checkpoint
    from .params import LlamaParams
    from .recipe import Recipe
    from .tensors import GGUFTensor
    from .vocab import Vocabulary


_SAMPLING_TYPES: Mapping[str, type] = {
    "sampling_sequence": str,
    "sampling_top_k": int,
    "sampling_penalty_last_n": int,
    "sampling_mirostat": int,
}


def build_metadata(
    checkpoint: Checkpoint,
    params: LlamaParams,
    vocabulary: Vocabulary,
    tensors: Sequence[GGUFTensor],
    recipe: Recipe,
) -> gguf.GGUFWriter:
    """Return a writer that holds all metadata and no tensors yet.

    Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#standardized-key-value-pairs
    """
    writer = gguf.GGUFWriter(path=None, arch=gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.LLAMA])
    _add_general(writer, checkpoint, tensors)
    _add_hyper_parameters(writer, params)
    vocabulary.add_to(writer)
    # llama-quantize sets these two anew, so they come last.
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(recipe.file_type)
    return writer


def set_metadata(writer: gguf.GGUFWriter, values: Mapping[str, str]) -> None:
    """Set keys to values given as text; a new key must be ``general.*`` and becomes a string.

    Raises:
        ConvertError: an unknown key, an array, or a text that is no value of the key's type.
    """
    (keys,) = writer.kv_data
    for key, text in values.items():
        kind = keys[key].type if key in keys else gguf.GGUFValueType.STRING
        if key not in keys and not key.startswith("general."):
            raise ConvertError(
                f"--metadata {key}: there is no such key",
                hint="Change a key that `edge-llama inspect --json` shows, or add general.* ones.",
            )
        try:
            keys[key] = gguf.GGUFValue(_parse_value(text, kind), kind)
        except (ValueError, KeyError):
            raise ConvertError(
                f"--metadata {key}: {text!r} is no value of type {kind.name}",
                hint="Numbers are written plainly, booleans as true or false; arrays stay.",
            ) from None


def _parse_value(text: str, kind: gguf.GGUFValueType) -> str | int | float | bool:
    if kind == gguf.GGUFValueType.STRING:
        return text
    if kind == gguf.GGUFValueType.BOOL:
        return {"true": True, "false": False}[text.lower()]
    if kind in {gguf.GGUFValueType.FLOAT32, gguf.GGUFValueType.FLOAT64}:
        return float(text)
    if kind == gguf.GGUFValueType.ARRAY:
        raise ValueError(text)
    number = int(text)
    if kind.name.startswith("U") and number < 0:
        raise ValueError(text)
    return number


def _add_general(
    writer: gguf.GGUFWriter, checkpoint: Checkpoint, tensors: Sequence[GGUFTensor]
) -> None:
    total = sum(math.prod(tensor.shape) for tensor in tensors)
    # Experts count once in the label, e.g. 8x7B; every other weight is shared by all of them.
    stacks = [tensor.shape for tensor in tensors if tensor.name.endswith("_exps.weight")]
    expert = sum(math.prod(shape[1:]) for shape in stacks)
    shared = total - sum(math.prod(shape) for shape in stacks)
    metadata = _read_metadata(checkpoint, total)
    if metadata.name is None:
        metadata.name = checkpoint.name
    if metadata.size_label is None:
        metadata.size_label = gguf.size_label(total, shared, expert, stacks[0][0] if stacks else 0)
    if metadata.sampling_penalty_repeat is None:  # gguf 0.19 knows another name for it only
        generation = checkpoint.optional_json("generation_config.json")
        metadata.sampling_penalty_repeat = generation.get("repetition_penalty")
    _check_sampling(metadata, checkpoint)
    writer.add_type(gguf.GGUFType.MODEL)
    metadata.set_gguf_meta_model(writer)


def _read_metadata(checkpoint: Checkpoint, n_parameters: int) -> gguf.Metadata:
    """Read what model card and configuration say, as ``gguf.Metadata.load`` does.

    That takes the folder's name for the model's, which it is not in the cache of a hub.
    """
    origin = checkpoint.optional_json("config.json").get("_name_or_path")
    metadata = gguf.Metadata.apply_metadata_heuristic(
        gguf.Metadata(),
        read_card(checkpoint.path),
        {"_name_or_path": origin} if isinstance(origin, str) else {},
        Path(checkpoint.name),
        n_parameters,
    )
    generation = gguf.Metadata.load_generation_config(checkpoint.path)
    for name in vars(metadata):
        if name.startswith("sampling_"):
            setattr(metadata, name, generation.get(_generation_key(name)))
    return metadata


def _generation_key(name: str) -> str:
    return "temperature" if name == "sampling_temp" else name.removeprefix("sampling_")


def _check_sampling(metadata: gguf.Metadata, checkpoint: Checkpoint) -> None:
    """Refuse sampling defaults that GGUF cannot hold; they come from generation_config.json."""
    for name, value in vars(metadata).items():
        if not name.startswith("sampling_") or value is None:
            continue
        wanted = _SAMPLING_TYPES.get(name, (int, float))
        if not isinstance(value, wanted):
            key = _generation_key(name)
            raise SourceError(
                f"{checkpoint.path / 'generation_config.json'}: "
                f"{key} = {value!r}, not {'a text' if wanted is str else 'a number'} as it must be",
                hint="Mend the entry or take the file away; it only holds sampling defaults.",
            )


def _add_hyper_parameters(writer: gguf.GGUFWriter, params: LlamaParams) -> None:
    writer.add_block_count(params.n_layers)
    writer.add_context_length(params.context_length)
    writer.add_embedding_length(params.hidden_size)
    writer.add_feed_forward_length(params.intermediate_size)
    writer.add_head_count(params.n_heads)
    writer.add_head_count_kv(params.n_kv_heads)
    _add_rope_scaling(writer, params)
    writer.add_rope_freq_base(params.rope_theta)
    writer.add_layer_norm_rms_eps(params.rms_norm_eps)
    if params.narrow_window is not None:
        # llama.cpp's LLaMA has no window, and its converter leaves the key out; but whoever opens
        # the file should know.
        writer.add_sliding_window(params.narrow_window)
    if params.n_experts is not None and params.n_experts_used is not None:
        writer.add_expert_count(params.n_experts)
        writer.add_expert_used_count(params.n_experts_used)
    if params.states_head_dim:
        writer.add_key_length(params.head_dim)
        writer.add_value_length(params.head_dim)
    writer.add_vocab_size(params.vocab_size)
    writer.add_rope_dimension_count(params.head_dim)


def _add_rope_scaling(writer: gguf.GGUFWriter, params: LlamaParams) -> None:
    rope = params.rope
    if params.rope_type == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif params.rope_type == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(
            int(rope.get("original_max_position_embeddings", params.context_length))
        )
        for add, key in (
            (writer.add_rope_scaling_yarn_ext_factor, "extrapolation_factor"),
            (writer.add_rope_scaling_yarn_attn_factor, "attention_factor"),
            (writer.add_rope_scaling_yarn_beta_fast, "beta_fast"),
            (writer.add_rope_scaling_yarn_beta_slow, "beta_slow"),
        ):
            if rope.get(key) is not None:
                add(rope[key])
        # llama.cpp reads none of the four for a LLaMA. What it does read is relative to its own
        # scale; convert_hf_to_gguf.py leaves it out, and attention comes out too flat or sharp.
        relative = rotation_of(params).scale / magnitude(float(rope["factor"]))
        if not math.isclose(relative, 1.0, rel_tol=1e-6):
            writer.add_rope_scaling_attn_factors(relative)
    # llama3 is the tensor rope_freqs.weight; "dynamic" changes nothing within the context.
