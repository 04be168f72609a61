"""``edge-llama inspect``: what a GGUF's header says, without loading it."""

from __future__ import annotations

from typing import Annotated

import typer

from . import console, options


def inspect(
    model: options.ModelName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a model file is, or one in several files; reads the header only."""
    from ..catalog import find_model
    from ..gguf_file import inspect as read
    from ..header.parser import LongArray
    from .memory import needs, needs_table

    info = read(find_model(model))
    facts = {
        "path": str(info.path),
        "name": info.name,
        "architecture": info.architecture,
        "parameters": info.n_parameters,
        "bytes": info.nbytes,
        "parts": len(info.parts),
        "bits_per_weight": round(sum(info.bytes_by_type.values()) * 8 / info.n_parameters, 2),
        "layers": info.n_layers,
        "context_length": info.context_length,
        "vocabulary": info.n_vocab,
        "chat_template": info.chat_template is not None,
    }
    if as_json:
        metadata = {
            key: {"count": value.count} if isinstance(value, LongArray) else value
            for key, value in info.metadata.items()
        }
        console.write_json(
            {
                **facts,
                "bytes_by_type": info.bytes_by_type,
                "memory": needs(info),
                "metadata": metadata,
            }
        )
        return
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for key, value in facts.items():
        shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
        table.add_row(key.replace("_", " "), str(shown))
    for kind, size in info.bytes_by_type.items():
        count = sum(tensor.type == kind for tensor in info.tensors)
        table.add_row(f"type {kind}", f"{count} tensors, {size / 1e6:,.1f} MB")
    console.stdout.print(table)
    console.stdout.print(needs_table(info))
