"""Importance matrices for the checkpoints of families.py, as llama-imatrix would write them.

``data/imatrix.json`` holds the sha256 of what llama-quantize makes with these very files;
``benchmarks/identical_families.py --imatrix --write`` makes it again.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import families
import gguf
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

DIGESTS = families.DATA / "imatrix.json"

#: Families and shapes compared: enough layers for the rules that an imatrix changes; experts, of
#: which one was sent no token; rows that fit no type.
CASES = (("llama-gqa-tied", "even"), ("mixtral-4", "even"), ("mixtral-8", "ragged"))

CHUNKS, CHUNK_SIZE = 3, 512
DATASET = "wiki.train.raw"

#: Sums ``[matrices, columns]`` and counts ``[matrices]`` by tensor.
Sums = dict[str, tuple["npt.NDArray[np.float32]", "npt.NDArray[np.float32]"]]


def sums(config: Mapping[str, Any], seed: int = 0) -> Sums:
    """Random sums of squares for every matrix in the layers but the last layer's attn_q."""
    rng = np.random.default_rng(seed)
    width, inner = config["hidden_size"], config["intermediate_size"]
    experts = config.get("num_local_experts") or 1
    stack = "_exps" if experts > 1 else ""
    columns = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (1, width))
    columns |= {f"ffn_{name}{stack}": (experts, width) for name in ("gate", "up")}
    columns[f"ffn_down{stack}"] = (experts, inner)
    if experts > 1:
        columns["ffn_gate_inp"] = (1, width)
    found: Sums = {}
    last = config["num_hidden_layers"] - 1
    for layer in range(last + 1):
        for name, shape in columns.items():
            counts = np.full(shape[0], CHUNKS * CHUNK_SIZE, dtype=np.float32)
            if shape[0] > 1:
                counts = rng.integers(1, CHUNK_SIZE, shape[0]).astype(np.float32)
                counts[layer % shape[0]] = 0
            # Inputs differ by orders of magnitude from column to column.
            values = np.exp(rng.normal(0, 2, shape)).astype(np.float32) * counts[:, None]
            if (name, layer) != ("attn_q", last):
                found[f"blk.{layer}.{name}.weight"] = values, counts
    return dict(sorted(found.items()))


def write(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """Write an importance matrix in both formats into ``folder``; return the files' names."""
    found = sums(config)
    write_gguf(folder / "imatrix.gguf", found)
    write_dat(folder / "imatrix.dat", found)
    return ["imatrix.gguf", "imatrix.dat"]


def write_gguf(path: Path, found: Sums, *, datasets: tuple[str, ...] = (DATASET, "more")) -> None:
    writer = gguf.GGUFWriter(path, arch="")
    writer.kv_data[0].clear()
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", list(datasets))
    writer.add_uint32("imatrix.chunk_count", CHUNKS)
    writer.add_uint32("imatrix.chunk_size", CHUNK_SIZE)
    for name, (values, counts) in found.items():
        writer.add_tensor(f"{name}.in_sum2", values)
        writer.add_tensor(f"{name}.counts", counts[:, None])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_dat(path: Path, found: Sums) -> None:
    parts = [struct.pack("<i", len(found))]
    for name, (values, counts) in found.items():
        calls = int(np.ceil(counts.max() / CHUNK_SIZE))
        # As llama-imatrix does: 1 for an expert without data.
        means = np.divide(
            values, counts[:, None], out=np.ones_like(values), where=counts[:, None] > 0
        )
        parts.append(struct.pack(f"<i{len(name)}s2i", len(name), name.encode(), calls, values.size))
        parts.append((means * np.float32(calls)).tobytes())
    parts.append(struct.pack("<2i", CHUNKS, len(DATASET)) + DATASET.encode())
    path.write_bytes(b"".join(parts))
