"""Meta's own checkpoints give the same GGUF as Hugging Face's of the same weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import builders
import numpy as np
import pickles
import pytest

from edge_llama_convert import (
    ConvertError,
    ParamsError,
    SourceError,
    TensorError,
    UnsupportedError,
    convert,
    plan,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    Weights = dict[str, npt.NDArray[np.float32]]

PARAMS: dict[str, Any] = {
    "dim": 64,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "multiple_of": 32,
    "ffn_dim_multiplier": 1.1,
    "norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "vocab_size": -1,
}
CHANGES: dict[str, Any] = {  # what a config.json of the same model says
    "intermediate_size": 192,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-05,
    "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"},
    "tie_word_embeddings": False,
}

NAMES = {
    "model.embed_tokens": "tok_embeddings",
    "model.norm": "norm",
    "lm_head": "output",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}
SLICED_COLUMNS = ("attention.wo.weight", "feed_forward.w2.weight")


def to_meta(weights: Weights, heads: Mapping[str, int]) -> Weights:
    """Rename, and regroup the rows of Q and K into Meta's order."""
    renamed = {}
    for name, values in weights.items():
        new = name.removesuffix(".weight")
        for theirs, ours in NAMES.items():
            new = new.replace(theirs, ours)
        kind = new.rpartition(".")[2]
        if kind in heads:
            pairs = values.reshape(heads[kind], 2, -1, values.shape[1])
            values = np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)  # noqa: PLW2901
        renamed[new.removeprefix("model.") + ".weight"] = values
    return renamed


def write_meta(
    folder: Path,
    weights: Weights,
    *,
    files: int = 1,
    embedding_axis: int = 1,
    params: Mapping[str, Any] = PARAMS,
) -> Path:
    folder.mkdir(parents=True)
    for i in range(files):
        part = {}
        for name, values in weights.items():
            axis = int(name.endswith(SLICED_COLUMNS))
            if name.startswith("tok_embeddings"):
                axis = embedding_axis
            whole = values.ndim == 1
            part[name] = values if whole else np.split(values, files, axis)[i]
        tensors = pickles.packed(part, "BF16")
        tensors["rope.freqs"] = ("F32", np.ones(8, np.float32))
        pickles.write_torch(folder / f"consolidated.{i:02}.pth", tensors)
    builders.write_json(folder / "params.json", params)
    builders.write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def weights() -> Weights:
    config = {**builders.CONFIG, **builders.TINY_SHAPE, **CHANGES}
    return builders.tiny_tensors(config)


@pytest.fixture(scope="module")
def meta_weights(weights: Weights) -> Weights:
    return to_meta(weights, {"wq": 4, "wk": 2})


@pytest.mark.parametrize(("files", "embedding_axis"), [(1, 0), (2, 1), (2, 0)])
def test_the_result_is_hugging_face_s(
    tmp_path: Path, weights: Weights, meta_weights: Weights, files: int, embedding_axis: int
) -> None:
    builders.build_tiny_checkpoint(tmp_path / "a" / "x", changes=CHANGES, tensors=weights)
    write_meta(tmp_path / "b" / "x", meta_weights, files=files, embedding_axis=embedding_axis)
    for recipe in ("q4_k_m", "bf16"):
        for name in ("a", "b"):
            convert(plan(tmp_path / name / "x", recipe=recipe), tmp_path / f"{name}-{recipe}")
        assert (tmp_path / f"a-{recipe}").read_bytes() == (tmp_path / f"b-{recipe}").read_bytes()


def _params(**changes: Any) -> dict[str, Any]:
    params = {**PARAMS, **changes}
    return {key: value for key, value in params.items() if value is not ...}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"norm_eps": 1e-06, "rope_theta": ...}, 2048),
        ({"rope_theta": ...}, 4096),
        ({"rope_theta": 1000000.0}, 16384),
        ({}, 8192),
        ({"use_scaled_rope": True, "rope_scaling_factor": 8}, 131072),
        ({"max_seq_len": 1234}, 1234),
    ],
)
def test_context_lengths(
    tmp_path: Path, meta_weights: Weights, changes: dict[str, Any], expected: int
) -> None:
    work = plan(write_meta(tmp_path / "x", meta_weights, params=_params(**changes)))
    assert work.params.context_length == expected


@pytest.mark.parametrize(
    ("shape", "multiplier", "multiple_of", "inner"),
    [
        ((4096, 32), None, 256, 11008),  # Llama 1 and 2, 7B
        ((8192, 80), 1.3, 4096, 28672),  # Llama 2 and 3, 70B
        ((4096, 32), 1.3, 1024, 14336),  # Llama 3, 8B
        ((2048, 16), 1.5, 256, 8192),  # Llama 3.2, 1B
        ((3072, 28), 1.0, 256, 8192),  # Llama 3.2, 3B
    ],
)
def test_published_feed_forward_sizes(
    tmp_path: Path, shape: tuple[int, int], multiplier: float | None, multiple_of: int, inner: int
) -> None:
    from edge_llama_convert.metaparams import translate_params

    dim, layers = shape
    params = _params(
        dim=dim, n_layers=layers, ffn_dim_multiplier=multiplier, multiple_of=multiple_of
    )
    config = translate_params(tmp_path, {**params, "use_scaled_rope": True}, 128256)
    assert config["intermediate_size"] == inner
    assert config["rope_parameters"]["factor"] == (32.0 if layers in {16, 28} else 8.0)
    assert config["vocab_size"] == 128256


def test_the_rope_factor_is_not_guessed(tmp_path: Path, meta_weights: Weights) -> None:
    folder = write_meta(tmp_path / "x", meta_weights, params=_params(use_scaled_rope=True))
    with pytest.raises(UnsupportedError, match="the factor is not told") as caught:
        plan(folder)
    assert "rope_scaling_factor" in caught.value.hint
    builders.write_json(
        folder / "params.json", _params(use_scaled_rope=True, rope_scaling_factor=32)
    )
    assert plan(folder).params.rope["factor"] == 32


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"dim": ..., "n_heads": "four"}, ParamsError, "dim; n_heads = 'four'"),
        ({"multiple_of": 0, "norm_eps": -1}, ParamsError, "multiple_of = 0.*norm_eps = -1"),
        ({"ffn_dim_multiplier": 1e308}, ConvertError, "intermediate_size|shape"),
        ({"vocab_size": 7}, TensorError, "shape"),
        ({"n_layers": 3}, TensorError, "missing"),
        ({"moe_args": {}}, UnsupportedError, "moe_args: not a plain LLaMA"),
        ({"hidden_dim": 192}, UnsupportedError, "hidden_dim"),
    ],
)
def test_bad_params(
    tmp_path: Path,
    meta_weights: Weights,
    changes: dict[str, Any],
    error: type[ConvertError],
    message: str,
) -> None:
    folder = write_meta(tmp_path / "x", meta_weights, params=_params(**changes))
    with pytest.raises(error, match=message):
        plan(folder)


def test_missing_and_foreign_slices(tmp_path: Path, meta_weights: Weights) -> None:
    folder = write_meta(tmp_path / "x", meta_weights, files=2)
    second = (folder / "consolidated.01.pth").read_bytes()
    (folder / "consolidated.01.pth").unlink()
    with pytest.raises(TensorError, match="shape"):
        plan(folder)
    (folder / "consolidated.02.pth").write_bytes(second)
    with pytest.raises(SourceError, match=r"expected consolidated\.00\.pth, consolidated\.01\.pth"):
        plan(folder)
    (folder / "consolidated.02.pth").unlink()
    other = {name: values for name, values in meta_weights.items() if "wv" not in name}
    pickles.write_torch(folder / "consolidated.01.pth", pickles.packed(other, "BF16"))
    with pytest.raises(TensorError, match=r"wv\.weight is missing in consolidated\.01\.pth"):
        plan(folder)
    half = {name: values[..., :40] for name, values in meta_weights.items()}
    pickles.write_torch(folder / "consolidated.01.pth", pickles.packed(half, "BF16"))
    with pytest.raises(TensorError, match="slices of tensor"):
        plan(folder)


def test_the_tokenizer_to_add_is_named(tmp_path: Path, meta_weights: Weights) -> None:
    folder = write_meta(tmp_path / "x", meta_weights)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedError, match="no tokenizer") as caught:
        plan(folder)
    assert "tokenizer.json" in caught.value.hint
    (folder / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")
    with pytest.raises(UnsupportedError, match="tiktoken"):
        plan(folder)


def test_params_json_is_needed(tmp_path: Path, meta_weights: Weights) -> None:
    folder = write_meta(tmp_path / "x", meta_weights)
    (folder / "params.json").unlink()
    with pytest.raises(SourceError, match=r"params\.json: missing"):
        plan(folder)
