"""Literal bytes, and identities that do not depend on the code under test."""

from __future__ import annotations

import struct

import gguf
import numpy as np
import pytest

from edge_llama_convert.ggml import GGMLType
from edge_llama_convert.quantize import quantise_rows
from edge_llama_convert.rows import permute_rows


def ramp(n: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """n exact values in [-1, 1), in one row."""
    return ((np.arange(n) * 37 % 64 - 32) / 32).astype(np.float32).reshape(1, n)


def test_q8_0_literal_bytes() -> None:
    # 0, 1, ..., 31 and a maximum of 127: the scale is exactly 1 and the numbers are themselves.
    values = np.arange(32, dtype=np.float32).reshape(1, 32)
    values[0, 31] = 127.0
    expected = struct.pack("<e", 1.0) + bytes([*range(31), 127])
    assert quantise_rows(GGMLType.Q8_0, values) == expected


def test_q4_0_literal_bytes() -> None:
    # The extreme is -8: the scale is exactly 1, values are stored as q + 8 in nibbles.
    values = np.array([[*range(-8, 8)] * 2], dtype=np.float32)
    nibbles = bytes(low | low << 4 for low in range(16))
    assert quantise_rows(GGMLType.Q4_0, values) == struct.pack("<e", 1.0) + nibbles


# Written by llama-quantize (llama.cpp as llama-cpp-python 0.3.36 vendors it) for the ramp above.
LITERAL = {
    GGMLType.Q4_K: (
        "4d18fc23fffcfffcfffdfffdffdcffdc8019a23bd56df78129b34cd57e08912ac45ce67f18a23bc4"
        "6df78019b34bd56e8019a23bd56df78129b34cd57e08912ac45ce67f18a23bc46df78019b34bd56e"
        "8019a23bd56df78129b34cd57e08912ac45ce67f18a23bc46df78019b34bd56e8019a23bd56df781"
        "29b34cd57e08912ac45ce67f18a23bc46df78019b34bd56e"
    ),
    GGMLType.Q6_K: (
        "0055aaff4499ee3388dd2277cc1166bb00bb6611cc7722dd8833ee9944ffaa550055aaff4499ee33"
        "88dd2277cc1166bbeecc3311ff6644bb9900eecc331188660055aaff4499ee3388dd2277cc1166bb"
        "00bb6611cc7722dd8833ee9944ffaa550055aaff4499ee3388dd2277cc1166bbeecc3311ff6644bb"
        "9900eecc3311886688228822dd77dd88228877dd7722882233882288dd77dd22882277dd77cc2288"
        "88228822dd77dd88228877dd7722882233882288dd77dd22882277dd77cc2288807f8073807f8073"
        "807f8073807f8073008c"
    ),
    GGMLType.Q5_0: "002c2ab55aa980b3d5f82a5d7fa2c4f7194c6e91b3e6",
}


@pytest.mark.parametrize("kind", LITERAL, ids=lambda kind: kind.name)
def test_literal_bytes_from_llama_quantize(kind: GGMLType) -> None:
    assert quantise_rows(kind, ramp(kind.block_elements)).hex() == LITERAL[kind]


@pytest.mark.parametrize("kind", GGMLType, ids=lambda kind: kind.name)
def test_values_come_back_within_the_type_s_precision(kind: GGMLType) -> None:
    values = np.random.default_rng(0).normal(0, 1, (4, 512)).astype(np.float32)
    packed = quantise_rows(kind, values)
    assert len(packed) == 4 * kind.row_bytes(512)
    raw = np.frombuffer(packed, dtype=np.uint8).reshape(4, -1)
    back = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(int(kind)))
    error = float(np.sqrt(np.mean((back.reshape(values.shape) - values) ** 2)))
    float_bits = {GGMLType.F16: 11, GGMLType.BF16: 8, GGMLType.F32: 24}  # of the mantissa
    bits = float_bits.get(kind, kind.row_bytes(256) * 8 / 256)
    assert error < 2.2 * 2.0 ** -(bits - 1), f"{kind.name}: {error}"


def test_a_row_that_is_no_multiple_of_the_block_never_reaches_ggml() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        quantise_rows(GGMLType.Q4_K, np.zeros((1, 128), dtype=np.float32))


def test_permutation_interleaves_the_halves_of_each_head() -> None:
    # Two heads of four rows; a row is named by its head and its place in transformers' layout.
    rows = np.array([[10], [11], [12], [13], [20], [21], [22], [23]], dtype=np.uint8)
    expected = [10, 12, 11, 13, 20, 22, 21, 23]
    assert permute_rows(rows, head_rows=4).ravel().tolist() == expected


def test_permutation_gives_the_same_rotation() -> None:
    """Rotating neighbours after the permutation equals rotating halves before it."""
    rng = np.random.default_rng(1)
    head, angle = rng.normal(size=8), rng.normal(size=4)
    half = np.concatenate(
        [
            head[:4] * np.cos(angle) - head[4:] * np.sin(angle),
            head[4:] * np.cos(angle) + head[:4] * np.sin(angle),
        ]
    )
    order = permute_rows(np.arange(8, dtype=np.uint8).reshape(8, 1), head_rows=8).ravel()
    moved = head[order]
    even, odd = moved[0::2], moved[1::2]
    rotated = np.empty(8)
    rotated[0::2] = even * np.cos(angle) - odd * np.sin(angle)
    rotated[1::2] = odd * np.cos(angle) + even * np.sin(angle)
    assert rotated == pytest.approx(half[order])
