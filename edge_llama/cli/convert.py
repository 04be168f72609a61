"""``edge-llama convert``: a checkpoint folder to a quantised GGUF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InvalidOptionError
from . import console

if TYPE_CHECKING:
    from edge_llama_convert import Plan, Result
    from edge_llama_convert.verify import Report


def convert(
    source: Annotated[
        Path, typer.Argument(help="The checkpoint's folder: config.json, tokenizer, safetensors.")
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
    pre: Annotated[
        str | None,
        typer.Option(
            "--pre",
            metavar="NAME",
            help="llama.cpp's name for how a byte-level BPE splits text, if it is not found out.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", "-t", min=1, help="By default one per core.")
    ] = None,
    verify: Annotated[
        str,
        typer.Option(
            "--verify",
            help="Check the result against the checkpoint before it gets its name: quick (some "
            "rows, the tokenizer), full (all rows, a forward pass), or off.",
        ),
    ] = "quick",
) -> None:
    """Turn a Hugging Face LLaMA checkpoint into a quantised GGUF, in one pass."""
    from edge_llama_convert import Recipe
    from edge_llama_convert import plan as make_plan
    from edge_llama_convert.verify import require

    from .verify import compare, show

    if verify not in {"quick", "full", "off"}:
        raise InvalidOptionError(f"unknown --verify {verify}", hint="Use quick, full or off.")
    known = [recipe.value for recipe in Recipe]
    if kind.lower() not in known:
        raise InvalidOptionError(f"unknown --type {kind}", hint=f"Use one of {', '.join(known)}.")
    work = make_plan(source, recipe=kind, pre=pre)
    target = output if output is not None else work.default_output
    reports: list[Report] = []

    def check(path: Path) -> None:
        reports.append(compare(work, path, verify))
        require(reports[-1], target)

    result = _with_progress(
        work,
        target,
        force=force,
        threads=threads,
        check=check if verify != "off" else None,
    )
    _show_result(result)
    for report in reports:
        show(report)
    console.write(f"{result.path}\n")


def _with_progress(work: Plan, target: Path, **settings: Any) -> Result:
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

        return run(work, target, progress=advance, **settings)


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
