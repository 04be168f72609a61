"""``edge-llama convert``: a checkpoint folder or a GGUF to a quantised GGUF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidOptionError
from . import console

if TYPE_CHECKING:
    from edge_llama_convert import Plan, Result


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="The checkpoint's folder (*.safetensors, pytorch_model*.bin or "
            "consolidated.*.pth with their JSON files), or a GGUF file."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file; by default models/NAME-TYPE.gguf."),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--type", help="q4_k_m, q8_0, f16, bf16, f32, or another of llama.cpp's file types."
        ),
    ] = "q4_k_m",
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace the file if it exists.")
    ] = False,
    requantize: Annotated[
        bool,
        typer.Option(
            "--requantize", help="Accept a GGUF that is quantised already; it loses more."
        ),
    ] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", "-t", min=1, help="By default one per core.")
    ] = None,
) -> None:
    """Turn a LLaMA checkpoint, or a GGUF, into a quantised GGUF, in one pass."""
    from edge_llama_convert import Recipe
    from edge_llama_convert import plan as make_plan

    known = [recipe.value for recipe in Recipe]
    if kind.lower() not in known:
        raise InvalidOptionError(f"unknown --type {kind}", hint=f"Use one of {', '.join(known)}.")
    work = make_plan(source, recipe=kind, requantize=requantize)
    target = output if output is not None else work.default_output
    result = _with_progress(work, target, force=force, threads=threads)
    _show_result(result)
    console.write(f"{result.path}\n")


def _with_progress(work: Plan, target: Path, *, force: bool, threads: int | None) -> Result:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from edge_llama_convert import Progress as Step
    from edge_llama_convert import convert as run

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console.stderr,
        transient=True,
    )
    with bar:
        task = bar.add_task(f"{work.name} -> {work.recipe.value}", total=work.nbytes)

        def advance(step: Step) -> None:
            bar.update(task, completed=step.done, total=step.total)

        return run(work, target, force=force, threads=threads, progress=advance)


def _show_result(result: Result) -> None:
    from rich.table import Table

    work = result.plan
    table = Table(title=f"{work.name}: {work.n_parameters / 1e6:,.1f}M parameters")
    for column in ("type", "tensors", "MB"):
        table.add_column(column, justify="left" if column == "type" else "right")
    for total in work.totals:
        table.add_row(total.kind.name, str(total.tensors), f"{total.nbytes / 1e6:,.1f}")
    bits = work.nbytes * 8 / work.n_parameters
    summary = f"{work.nbytes / 1e6:,.1f} MB, {bits:.2f} bits per weight, {result.seconds:.1f} s" + (
        f", peak memory {result.peak_memory / 1e6:,.0f} MB" if result.peak_memory else ""
    )
    console.show(table)
    console.show(summary)
