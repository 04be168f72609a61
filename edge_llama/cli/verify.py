"""``edge-llama verify``: check a GGUF by itself, or against the checkpoint it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import console
from .progress import byte_progress, fetching

if TYPE_CHECKING:
    from edge_llama_convert import Plan
    from edge_llama_convert.checks import Check, Report

    from ..gguf_file import GGUFInfo

_HINT = "It was edited, damaged, or made from something else; convert or download it again."


def verify(
    model: Annotated[Path, typer.Argument(help="The GGUF file, or the name of one in models/.")],
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="What it was made from: the checkpoint's folder, a GGUF, or a model's id on the "
            "hub, org/name[@revision].",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="No forward pass; of a checkpoint only some rows.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check a model file by itself, or against the checkpoint it was made from.

    By itself: its tensors are whole and finite, its vocabulary gives texts back, llama.cpp
    computes from it what its weights say. Shows the report that was stored when it was made.
    """
    from edge_llama_convert.checks import Level, require
    from edge_llama_convert.report import REPORT_KEY, read_report

    from ..catalog import find_model
    from ..gguf_file import inspect

    path = find_model(str(model))
    info = inspect(path)
    stored = read_report(info.metadata.get(REPORT_KEY))
    level = Level.QUICK if quick else Level.FULL
    if against is None:
        report = _examine(path, level)
    else:
        report = _compare_with(against, info, stored, level)
    if as_json:
        console.write_json({"path": str(path), **describe_report(report), "report": stored})
    else:
        _show_stored(stored, info)
        show_report(report)
    require(report, path, hint=_HINT)


def _show_stored(stored: dict[str, Any] | None, info: GGUFInfo) -> None:
    from edge_llama_convert.report import is_of, summary

    lines = summary(stored) if stored is not None else ["none is stored in the file"]
    if stored is not None and not is_of(stored, (tensor.type for tensor in info.tensors)):
        lines.append("not of this file: it was carried over from the one this was made of")
    for line in lines:
        console.note(f"report: {line}")


def _examine(path: Path, level: str) -> Report:
    from edge_llama_convert.checks import Level
    from edge_llama_convert.selfcheck import examine

    from ..reading import Reading

    with Reading(path) as reading:
        return examine(path, Level(level), reading)


def _compare_with(
    against: str, info: GGUFInfo, stored: dict[str, Any] | None, level: str
) -> Report:
    from dataclasses import replace

    from edge_llama_convert import fetch, plan
    from edge_llama_convert.checks import Level
    from edge_llama_convert.overrides import parse_type
    from edge_llama_convert.report import compare_inputs

    with console.status(f"reading {against}"):
        source = plan(against, requantize=True)
    with byte_progress() as show_bytes:
        source = fetch(source, fetching(show_bytes))
    work = source.placed_as(
        {each.name: (parse_type(each.type), each.offset, each.part) for each in info.tensors}
    )
    report = compare(work, info.path, level)
    if stored is None:
        return report
    inputs = compare_inputs(work, stored, Level(level))
    return replace(report, checks=(inputs, *report.checks))


def check_source(work: Plan) -> None:
    """Refuse a GGUF source that llama.cpp does not load; nor would it load the result."""
    from ..reading import Reading

    if work.source.is_file():
        with Reading(work.source):
            pass


def compare(work: Plan, path: Path, level: str, tokens: Check | None = None) -> Report:
    """Compare the file with its checkpoint through llama.cpp's own reading of it.

    ``tokens`` is the comparison of tokenizers, if it was made already.
    """
    from edge_llama_convert.checks import Level
    from edge_llama_convert.verify import verify as run

    from ..reading import Reading

    if tokens is not None and level != Level.FULL:
        return run(work, path, Level(level), tokens=tokens)
    with Reading(path) as reading:
        return run(work, path, Level(level), reading, tokens=tokens)


def describe_report(report: Report) -> dict[str, Any]:
    """Return a report as plain values, for machines."""
    return {
        "level": report.level.value,
        "passed": report.passed,
        "checks": [
            {
                "name": check.name,
                "passed": check.passed,
                "noteworthy": check.noteworthy,
                "detail": check.detail,
                "figures": dict(check.figures),
            }
            for check in report.checks
        ],
    }


def show_report(report: Report) -> None:
    """Show every comparison on standard error."""
    for check in report.checks:
        state = ("note" if check.noteworthy else "ok") if check.passed else "FAILED"
        console.note(f"{state}: {check.name}: {check.detail}")
