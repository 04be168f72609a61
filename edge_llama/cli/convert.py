"""``edge-llama convert``: a checkpoint, here or on a hub, or a GGUF to a quantised GGUF."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InvalidOptionError
from . import console
from .interrupt import interruptible
from .progress import byte_progress, fetching

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from edge_llama_convert import Plan, Result


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="The checkpoint's folder (*.safetensors, pytorch_model*.bin or "
            "consolidated.*.pth with their JSON files), a GGUF file, or the id of a model on "
            "the Hugging Face hub: org/name[@revision]."
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
    pre: Annotated[
        str | None,
        typer.Option(
            "--pre",
            metavar="NAME",
            help="llama.cpp's name for how a byte-level BPE splits text, if it is not found out.",
        ),
    ] = None,
    output_type: Annotated[
        str | None, typer.Option("--output-type", metavar="TYPE", help="Type of the output matrix.")
    ] = None,
    embedding_type: Annotated[
        str | None,
        typer.Option("--embedding-type", metavar="TYPE", help="Type of the token embedding."),
    ] = None,
    tensor_type: Annotated[
        list[str] | None,
        typer.Option(
            "--tensor-type",
            metavar="REGEX=TYPE",
            help="Type of the tensors whose GGUF name matches; may be given several times.",
        ),
    ] = None,
    imatrix: Annotated[
        str | None,
        typer.Option(
            "--imatrix",
            metavar="FILE",
            help="An importance matrix that llama-imatrix made of this model (GGUF or .dat).",
        ),
    ] = None,
    split_max_size: Annotated[
        str | None,
        typer.Option(
            "--split-max-size",
            metavar="N(M|G)",
            help="Write several files, each of up to that many megabytes or gigabytes.",
        ),
    ] = None,
    split_max_tensors: Annotated[
        int | None,
        typer.Option(
            "--split-max-tensors", metavar="N", help="Write several files of up to N tensors."
        ),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            "--metadata", metavar="KEY=VALUE", help="Set a metadata key, e.g. general.name=Tom."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be written, and write nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the plan or the result as a JSON object.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", "-t", min=1, help="By default one per core.")
    ] = None,
    verify: Annotated[
        str,
        typer.Option(
            "--verify",
            help="Check the result against the checkpoint before it gets its name: quick (some "
            "rows, the tokenizer), full (all rows, a forward pass), or off. The report is stored "
            "in the file; with off, the file is llama.cpp's byte for byte.",
        ),
    ] = "quick",
) -> None:
    """Turn a LLaMA checkpoint, or a GGUF, into a quantised GGUF, in one pass."""
    from edge_llama_convert import Recipe, SplitLimit, TypeOverrides
    from edge_llama_convert import plan as make_plan
    from edge_llama_convert.checks import Level
    from edge_llama_convert.report import with_report

    from .proof import Proof
    from .verify import check_source, describe_report, show_report

    levels = [level.value for level in Level]
    if verify not in levels:
        raise InvalidOptionError(f"unknown --verify {verify}", hint=f"Use {', '.join(levels)}.")
    known = [recipe.value for recipe in Recipe]
    if kind.lower() not in known:
        raise InvalidOptionError(f"unknown --type {kind}", hint=f"Use one of {', '.join(known)}.")
    with console.status(f"reading {source}"):
        work = make_plan(
            source,
            recipe=kind,
            pre=pre,
            overrides=TypeOverrides.parse(output_type, embedding_type, tensor_type or ()),
            metadata=_key_values(metadata or ()),
            requantize=requantize,
            imatrix=imatrix,
            split=SplitLimit.parse(split_max_size, split_max_tensors),
        )
    if verify != Level.OFF:
        check_source(work)
        work = with_report(work)
    target = output if output is not None else work.default_output
    if not as_json:
        _show_notes(work)
    if dry_run:
        _show_plan(work, target, as_json=as_json)
        return
    proof = Proof(work, target, verify)
    checks: dict[str, Any] = {"check_header": proof.of_header, "check": proof.of_file}
    if verify == Level.OFF:
        checks = {}
    result = _with_progress(work, target, force=force, threads=threads, **checks)
    if as_json:
        facts = {**describe(work, target), "seconds": round(result.seconds, 3)}
        if proof.report is not None:
            facts["verification"] = describe_report(proof.report)
        console.write_json(facts)
        return
    console.show(_table(work))
    peak = f", peak memory {result.peak_memory / 1e6:,.0f} MB" if result.peak_memory else ""
    console.show(f"{_size(work)}, {result.seconds:.1f} s{peak}")
    _note_coverage(work)
    if proof.report is not None:
        show_report(proof.report)
    console.write(f"{result.path}\n")


def _key_values(texts: Iterable[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for key, separator, _ in pairs:
        if not key or not separator:
            raise InvalidOptionError(
                f"--metadata {key!r} has no value", hint="Write it as --metadata key=value."
            )
    return {key: value for key, _, value in pairs}


def _with_progress(work: Plan, target: Path, **settings: Any) -> Result:
    from edge_llama_convert import Progress as Step
    from edge_llama_convert import convert as run

    with byte_progress() as show, interruptible():

        def advance(step: Step) -> None:
            show(f"{work.name} -> {work.recipe.value}", step.done, step.total)

        return run(work, target, progress=advance, fetching=fetching(show), **settings)


def _show_notes(work: Plan) -> None:
    for note in work.notes:
        console.note(f"note: {note}")


#: Context for which a plan says how much memory the model will take, in tokens, if it has that.
_PLANNED_CONTEXT = 4096


def _planned_context(work: Plan) -> int:
    return min(_PLANNED_CONTEXT, work.params.context_length)


def describe(work: Plan, path: Path) -> dict[str, Any]:
    """Return a plan as plain values, for machines."""
    context = _planned_context(work)
    files = list(zip(work.outputs(path), work.parts, strict=True))
    return {
        "path": str(files[0][0]),
        "source": work.hub.label if work.hub else str(work.source),
        "download_bytes": work.hub.missing(work.weights) if work.hub else 0,
        "name": work.name,
        "type": work.recipe.value,
        "parameters": work.n_parameters,
        "bytes": work.nbytes,
        "bits_per_weight": round(work.bits_per_weight, 3),
        "files": [{"path": str(file), "bytes": part.nbytes} for file, part in files],
        "kv_cache_bytes_f16": work.kv_cache_bytes(context),
        "kv_cache_context": context,
        "imatrix": asdict(work.importance) if work.importance is not None else None,
        "tensors": {
            total.kind.name: {"count": total.tensors, "bytes": total.nbytes}
            for total in work.totals
        },
        "notes": list(work.notes),
    }


def _show_plan(work: Plan, path: Path, *, as_json: bool) -> None:
    if as_json:
        console.write_json(describe(work, path))
        return
    console.stdout.print(_table(work))
    _note_coverage(work)
    context = _planned_context(work)
    cache = work.kv_cache_bytes(context)
    files = list(zip(work.outputs(path), work.parts, strict=True))
    if work.split is not None:
        for file, part in files:
            console.write(f"{file}: {part.nbytes / 1e6:,.1f} MB\n")
    what = path if work.split is None else f"{len(files)} files"
    console.write(
        f"{what}: {_size(work)}; running it takes about {(work.nbytes + cache) / 1e6:,.0f} MB with "
        f"a context of {context} tokens, {cache / 1e6:,.0f} MB of it for the KV cache\n"
    )
    if work.hub is not None:
        missing = work.hub.missing(work.weights)
        console.write(f"{work.hub.label}: {missing / 1e6:,.1f} MB to download\n")


def _note_coverage(work: Plan) -> None:
    """Say which tensors are quantised without importance, as llama-quantize does one by one."""
    from edge_llama_convert.naming import listed

    if work.importance is not None:
        missing = listed(work.importance.missing)
        without = f"; no importance for {missing}" if missing else ""
        console.note(f"imatrix: {work.importance.tensors} tensors{without}")


def _table(work: Plan) -> Table:
    from rich.table import Table

    table = Table(title=f"{work.name}: {work.n_parameters / 1e6:,.1f}M parameters", min_width=40)
    for column in ("type", "tensors", "MB"):
        table.add_column(column, justify="left" if column == "type" else "right")
    for total in work.totals:
        table.add_row(total.kind.name, str(total.tensors), f"{total.nbytes / 1e6:,.1f}")
    return table


def _size(work: Plan) -> str:
    return f"{work.nbytes / 1e6:,.1f} MB, {work.bits_per_weight:.2f} bits per weight"
