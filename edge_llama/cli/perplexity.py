"""``edge-llama perplexity``: how well a model predicts a text, by itself or beside another."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ..config import ModelConfig
from ..errors import InvalidOptionError
from . import console, options
from .progress import step_progress
from .runtime import read_stdin

if TYPE_CHECKING:
    from rich.table import Table

    from ..evaluate import Comparison, Estimate, Perplexity, Progress

#: Where the figures that people compare come from; a smaller context gives a larger perplexity.
_DEFAULT_CONTEXT = 512


@options.measures_model
def perplexity(
    model: options.RequiredModel,
    text: Annotated[str, typer.Argument(help="A text file; - is standard input.")],
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="BASE",
            help="The model this one was made of: show the KL divergence from it as well.",
        ),
    ] = None,
    n_ctx: Annotated[
        int, typer.Option("--ctx", "-c", min=8, help="Tokens per chunk of text.")
    ] = _DEFAULT_CONTEXT,
    chunks: Annotated[
        int | None, typer.Option("--chunks", min=1, help="Read only so many chunks.")
    ] = None,
    as_json: options.AsJSON = False,
    *,
    config: ModelConfig,
) -> None:
    """Measure how well a model predicts a text; lower is better.

    The figure is llama-perplexity's: chunks of --ctx tokens, the second half of each scored.
    With --against BASE, what the model lost since BASE: the KL divergence, and how often both
    find the same token likeliest. So that figures can be compared, the KV cache is f16 and weights
    are not repacked unless --kv-type and --repack say otherwise.
    """
    from ..catalog import find_model
    from ..evaluate import compare
    from ..evaluate import perplexity as measure

    path = find_model(model)
    content = _read(text)
    with step_progress(f"loading {path.name}") as show:

        def advance(step: Progress) -> None:
            show(f"perplexity {step.perplexity:.4f}", step.done, step.total)

        settings: dict[str, Any] = {
            "config": dataclasses.replace(config, n_ctx=n_ctx),
            "max_chunks": chunks,
            "on_progress": advance,
        }
        result: Perplexity | Comparison
        if against is None:
            result = measure(path, content, **settings)
        else:
            result = compare(path, find_model(against), content, **settings)
    if as_json:
        console.write_json(result)
    elif against is None:
        _show_perplexity(cast("Perplexity", result))
    else:
        _show_comparison(cast("Comparison", result))


def _read(source: str) -> str:
    """Return the text, without the line end at its end, as llama-perplexity does."""
    if source == "-":
        return read_stdin()
    try:
        return Path(source).read_bytes().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InvalidOptionError(
            f"{source}: byte {error.start:,} is no UTF-8 text",
            hint="Give a text file; convert it with: iconv -t UTF-8",
        ) from error


def _pair(estimate: Estimate, unit: str = "", scale: float = 1.0, digits: int = 4) -> str:
    value, error = estimate.value * scale, estimate.error * scale
    return f"{value:.{digits}f}{unit} ± {error:.{digits}f}{unit}"


def _circumstances(result: Perplexity) -> str:
    speed = result.n_chunks * result.n_ctx / result.seconds
    return (
        f"{result.n_scored:,} tokens scored in {result.n_chunks} chunks of {result.n_ctx} | "
        f"{result.seconds:.1f} s, {speed:.0f} tokens/s"
    )


def _show_perplexity(result: Perplexity) -> None:
    for note in result.notes:
        console.note(f"({note})")
    console.write(f"{_pair(result.perplexity)}\n")
    console.note(_circumstances(result))


def _show_comparison(result: Comparison) -> None:
    for note in result.this.notes:
        console.note(f"({note})")
    console.note(f"base: {result.base.model}")
    console.note(f"this: {result.this.model}")
    console.stdout.print(_table(result))
    console.note(_circumstances(result.this))


def _table(result: Comparison) -> Table:
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    divergence = result.divergence
    for name, value in (
        ("perplexity, base", _pair(result.base.perplexity)),
        ("perplexity, this", _pair(result.this.perplexity)),
        ("perplexity, this / base", _pair(result.ratio, digits=5)),
        ("KL(base || this), mean", _pair(divergence.mean, digits=6)),
        ("KL(base || this), median", f"{divergence.median:.6f}"),
        ("KL(base || this), 99 %", f"{divergence.percentile_99:.6f}"),
        ("KL(base || this), largest", f"{divergence.maximum:.6f}"),
        ("same likeliest token", _pair(result.same_top, " %", 100, 2)),
    ):
        table.add_row(name, value)
    return table
