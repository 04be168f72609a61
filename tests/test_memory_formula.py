"""The formulas against llama.cpp itself, which simulates its allocations for a model's shape."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import pytest
from model_shapes import SHAPES, ModelShape

from edge_llama import inspect
from edge_llama.memory import Shape, kv_cache_bytes, read_facts
from edge_llama.memory.formula import compute_bytes, output_bytes
from edge_llama.native.buffers import recorded
from edge_llama.native.library import llama

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The log has two digits of a MiB.
_DIGIT = 0.006 * 2**20


@pytest.fixture(params=list(SHAPES.values()), ids=list(SHAPES))
def simulated(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ModelShape, int]]:
    """A shape, and a ``llama_model`` of it that allocates nothing."""
    lib = llama()
    params = lib.llama_model_default_params()
    params.no_alloc, params.load_mode = True, lib.LLAMA_LOAD_MODE_NONE
    params.n_gpu_layers, params.use_extra_bufts = 0, False
    path = request.param.write(tmp_path / "shape.gguf")
    handle = lib.llama_model_load_from_file(str(path).encode(), params)
    assert handle
    yield request.param, handle
    lib.llama_model_free(handle)


def allocated(handle: int, shape: Shape) -> dict[str, int]:
    """What llama.cpp would allocate for a context, by kind."""
    lib = llama()
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = shape.n_ctx, shape.n_ubatch, shape.n_ubatch
    params.n_seq_max, params.n_outputs_max = shape.n_parallel, shape.n_outputs
    params.kv_unified = True
    params.type_k = params.type_v = {"f16": 1, "q4_0": 2, "q8_0": 8}[shape.kv_type]
    params.flash_attn_type = int(shape.flash_attention)
    with recorded() as buffers:
        context = lib.llama_init_from_model(handle, params)
    assert context
    lib.llama_free(context)
    return {buffer.kind: buffer.nbytes for buffer in buffers}


def test_buffers_are_those_of_llama_cpp(
    simulated: tuple[ModelShape, int], caplog: pytest.LogCaptureFixture
) -> None:
    model, handle = simulated
    facts = model.facts()
    for shape in (
        Shape(n_ctx=512, n_ubatch=32),
        Shape(n_ctx=8192, n_ubatch=512, n_parallel=4, n_outputs=4),
        Shape(n_ctx=512, n_ubatch=512, kv_type="q8_0", n_parallel=4, n_outputs=4),
        Shape(n_ctx=8192, n_ubatch=32, kv_type="q8_0"),
        Shape(n_ctx=8192, n_ubatch=512, kv_type="q4_0"),
    ):
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "edge_llama.native"):
            found = allocated(handle, shape)
        assert compute_bytes(facts, shape) == pytest.approx(
            found["compute"], rel=0.01, abs=2 * _DIGIT
        ), shape
        assert output_bytes(facts, shape) == pytest.approx(found["output"], abs=_DIGIT)
        cache = re.search(r"llama_kv_cache: size = +([\d.]+) MiB", caplog.text)
        assert cache
        assert kv_cache_bytes(facts, shape) == pytest.approx(float(cache[1]) * 2**20, abs=_DIGIT)


def test_attention_with_all_scores(simulated: tuple[ModelShape, int]) -> None:
    """In small contexts freed blocks of the scores make it less exact, by a few MiB at most."""
    model, handle = simulated
    for n_ctx, n_ubatch, rel in ((512, 128, 0.1), (2048, 512, 0.02), (4096, 128, 0.02)):
        for n_parallel in (1, 4):
            shape = Shape(
                n_ctx=n_ctx,
                n_ubatch=n_ubatch,
                flash_attention=False,
                n_parallel=n_parallel,
                n_outputs=n_parallel,
            )
            found = allocated(handle, shape)["compute"]
            assert compute_bytes(model.facts(), shape) == pytest.approx(found, rel=rel), shape


def test_facts_of_the_embedded_model(embedded: Path) -> None:
    info = inspect(embedded)
    facts = read_facts(info)
    assert facts.kv_widths == (2 * 3 * 64,) * 30
    assert (facts.n_embd, facts.n_ff, facts.q_width, facts.n_head) == (576, 1536, 576, 9)
    assert (facts.n_vocab, facts.n_merges, facts.n_ctx_train) == (49152, 48900, 8192)
    assert facts.tied
    assert facts.nbytes == sum(tensor.nbytes for tensor in info.tensors)
    assert set(facts.layers[0].by_type) == {"Q4_1"}


def test_the_cache_of_the_embedded_model(embedded: Path) -> None:
    """Figures that llama.cpp logs for it, and a context that is rounded up."""
    facts = read_facts(inspect(embedded))
    assert kv_cache_bytes(facts, Shape(n_ctx=4096, n_ubatch=1)) == 90 * 2**20
    shape = Shape(n_ctx=1900, n_ubatch=1, kv_type="q8_0")
    assert kv_cache_bytes(facts, shape) == int(23.90625 * 2**20)
