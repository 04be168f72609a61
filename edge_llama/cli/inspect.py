"""``edge-llama inspect`` and ``info``: what a GGUF's header says, without loading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import one_line
from . import console, modelfacts, options

if TYPE_CHECKING:
    from rich.table import Table

    from ..gguf_file import GGUFInfo


def inspect(
    model: options.ModelName = None,
    list_tensors: Annotated[
        bool, typer.Option("--tensors", help="List every tensor as well.")
    ] = False,
    as_json: options.AsJSON = False,
) -> None:
    """Show what a model file is, or one in several files; reads the header only.

    Its shape, types, tokenizer, whether the file is whole, and what memory it takes by context
    and type of the KV cache.
    """
    from ..catalog import find_model
    from ..gguf_file import inspect as read
    from .memory import needs, needs_table

    info = read(find_model(model))
    facts, tokenizer = modelfacts.facts(info), modelfacts.tokenizer(info)
    if as_json:
        console.write_json(
            {
                **facts,
                "tokenizer": tokenizer,
                "types": modelfacts.types(info),
                "bytes_by_type": info.bytes_by_type,
                "memory": needs(info),
                "metadata": modelfacts.metadata(info),
                **({"tensors": modelfacts.tensors(info)} if list_tensors else {}),
            }
        )
        return
    for key, value in _lines(facts, tokenizer, info).items():
        # Lines rather than a table, which would break a path for readers of a pipe.
        console.write(f"{key:15}{one_line(value, 4096)}\n")
    console.stdout.print(_types_table(info))
    console.stdout.print(needs_table(info))
    if list_tensors:
        _write_tensors(info)


def _lines(facts: dict[str, Any], tokenizer: dict[str, Any], info: GGUFInfo) -> dict[str, str]:
    missing = facts["missing_bytes"]
    template = info.chat_template
    experts = f", {facts['experts_used']} of {facts['experts']} experts"
    return {
        "file": facts["path"],
        "name": facts["name"],
        "architecture": facts["architecture"],
        "type": f"{facts['type']}, {facts['bits_per_weight']:.2f} bits per weight",
        "parameters": f"{facts['parameters']:,}",
        "size": f"{facts['bytes']:,} bytes in {facts['parts']} file"
        + ("s" if facts["parts"] > 1 else ""),
        "whole": "yes" if not missing else f"no: {missing:,} bytes were never written",
        "shape": f"{facts['layers']} layers of width {facts['width']:,}, {facts['heads']} heads, "
        f"{facts['key_value_heads']} of keys and values" + (experts if facts["experts"] else ""),
        "context": f"{facts['context_length']:,} tokens",
        "tokenizer": _tokenizer_line(tokenizer),
        "chat template": "none" if template is None else f"{len(template):,} characters",
    }


def _tokenizer_line(tokenizer: dict[str, Any]) -> str:
    kind = tokenizer["model"] + (f" ({tokenizer['pre']})" if "pre" in tokenizer else "")
    merges = f", {tokenizer['merges']:,} merges" if tokenizer["merges"] else ""
    ids = "".join(
        f", {name} {tokenizer[name]}" for name in ("bos", "eos", "eot") if name in tokenizer
    )
    return f"{kind}, {tokenizer['tokens']:,} tokens{merges}{ids}"


def _types_table(info: GGUFInfo) -> Table:
    from rich.table import Table

    table = Table("type", box=None, pad_edge=False)
    for column in ("tensors", "MB", "bits per weight"):
        table.add_column(column, justify="right")
    for kind, total in modelfacts.types(info).items():
        row = (
            f"{total['tensors']:,}",
            f"{total['bytes'] / 1e6:,.1f}",
            f"{total['bits_per_weight']:.2f}",
        )
        table.add_row(kind, *row)
    return table


def _write_tensors(info: GGUFInfo) -> None:
    rows = [
        (one_line(tensor.name), " x ".join(map(str, tensor.shape)), tensor.type, tensor.nbytes)
        for tensor in info.tensors
    ]
    names, shapes = (max(len(str(row[column])) for row in rows) for column in (0, 1))
    for name, shape, kind, nbytes in rows:
        console.write(f"{name:{names}}  {shape:{shapes}}  {kind:7}{nbytes:>15,}\n")
