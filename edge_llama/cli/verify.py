"""``edge-llama verify``: compare a GGUF with the checkpoint it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import console
from .progress import byte_progress, fetching

if TYPE_CHECKING:
    from edge_llama_convert import Plan
    from edge_llama_convert.checks import Report

_HINT = "It was edited, damaged, or made from something else; convert or download it again."


def verify(
    model: Annotated[Path, typer.Argument(help="The GGUF file, or the name of one in models/.")],
    against: Annotated[
        str,
        typer.Option(
            "--against",
            help="The checkpoint's folder it was made from, or its id on the hub: "
            "org/name[@revision].",
        ),
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="Compare only some rows, and no forward pass.")
    ] = False,
) -> None:
    """Compare a converted model with its checkpoint: weights, tokenizer, and a forward pass."""
    from edge_llama_convert import fetch, plan
    from edge_llama_convert.checks import Level, require
    from edge_llama_convert.overrides import parse_type

    from ..catalog import find_model
    from ..gguf_file import inspect

    path = find_model(str(model))
    info = inspect(path)
    with console.status(f"reading {against}"):
        source = plan(against)
    with byte_progress() as show_bytes:
        source = fetch(source, fetching(show_bytes))
    work = source.placed_as(
        {tensor.name: (parse_type(tensor.type), tensor.offset) for tensor in info.tensors}
    )
    report = compare(work, path, Level.QUICK if quick else Level.FULL)
    show(report)
    require(report, path, hint=_HINT)


def compare(work: Plan, path: Path, level: str) -> Report:
    """Compare the file with its checkpoint through llama.cpp's own reading of it."""
    from edge_llama_convert.checks import Level
    from edge_llama_convert.verify import verify as run

    from ..reading import Reading

    with Reading(path) as reading:
        return run(work, path, Level(level), reading)


def show(report: Report) -> None:
    """Show every comparison on standard error."""
    for check in report.checks:
        state = ("note" if check.noteworthy else "ok") if check.passed else "FAILED"
        console.note(f"{state}: {check.name}: {check.detail}")
