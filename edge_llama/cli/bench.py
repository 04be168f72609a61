"""``edge-llama bench``: how fast a model runs here, and how near to what the memory allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..config import ModelConfig
from . import console, options
from .progress import step_progress

if TYPE_CHECKING:
    from rich.table import Table

    from ..evaluate import Bench


@options.measures_model
def bench(
    model: options.ModelName = None,
    n_prompt: Annotated[
        int, typer.Option("--prompt", "-p", min=1, help="Tokens of the prompt.")
    ] = 512,
    n_tokens: Annotated[
        int, typer.Option("--tokens", "-n", min=1, help="Tokens to generate after it.")
    ] = 64,
    rounds: Annotated[
        int, typer.Option("--rounds", "-r", min=1, help="How often everything is measured.")
    ] = 5,
    as_json: options.AsJSON = False,
    *,
    config: ModelConfig,
) -> None:
    """Measure a model's speed: load, first token, prefill, decode, and memory.

    Shows medians over the rounds with the lowest and highest, and which part of the memory's
    bandwidth, measured in the same rounds, decoding reaches. Wide spreads mean a busy machine.
    """
    from ..catalog import find_model
    from ..evaluate import Workload
    from ..evaluate import bench as measure

    path = find_model(model)
    work = Workload(n_prompt=n_prompt, n_tokens=n_tokens, rounds=rounds)
    with step_progress(f"measuring {path.name}") as show:
        show(f"measuring {path.name}", 0, rounds)
        result = measure(
            path, config, work, lambda done, total: show(f"measuring {path.name}", done, total)
        )
    if as_json:
        console.write_json(result)
        return
    plan = result.plan
    for note in plan.notes:
        console.note(f"({note})")
    console.stdout.print(_table(result))
    console.note(
        f"{path.name} on {plan.device}, {plan.threads} threads, {rounds} rounds, KV cache "
        f"{plan.kv_type}, repacked: {'yes' if plan.repack else 'no'}; first load "
        f"{result.first_load:.2f} s"
    )


def _table(result: Bench) -> Table:
    from rich.table import Table

    from ..units import format_bytes

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("median", "lowest", "highest"):
        table.add_column(name, justify="right")
    work, process = result.workload, result.memory.process
    for name, spread, unit, scale in (
        ("load", result.load, "s", 1.0),
        (f"first token, load and {work.n_prompt} read", result.first_token, "s", 1.0),
        (f"prefill of {work.n_prompt}", result.prefill, "t/s", 1.0),
        (f"decode of {work.n_tokens} after it", result.decode, "t/s", 1.0),
        ("memory bandwidth", result.bandwidth, "GB/s", 1e-9),
        ("used by decode", result.bandwidth_share, "%", 100.0),
    ):
        if spread is not None:
            values = (spread.median, spread.lowest, spread.highest)
            table.add_row(name, *(f"{value * scale:.2f} {unit}" for value in values))
    table.add_row("read per token", format_bytes(result.bytes_per_token))
    for name, size in (
        ("memory, resident", process.resident),
        ("memory, PSS", process.proportional),
        ("memory, peak", process.peak),
    ):
        if size is not None:
            table.add_row(name, format_bytes(size))
    return table
