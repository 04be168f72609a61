"""``edge-llama models``: which models are here, and which of them fit into memory now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ModelFileError, OutOfMemoryError, one_line
from . import console, options

if TYPE_CHECKING:
    from ..catalog import Entry
    from ..hardware import HardwareState

_HEADINGS = {"name": "NAME", "size": "SIZE", "type": "TYPE", "context": "CONTEXT", "fits": "FITS"}
_SIDES = {"size": ">", "context": ">"}


def models(as_json: options.AsJSON = False) -> None:
    """List the models in models/ and the user's folder: size, type, context, and whether they fit.

    FITS is the context that would be opened in the memory that is free now.
    """
    from ..catalog import embedded_model, list_models, model_folders
    from ..hardware import HardwareState, memory_now

    embedded = embedded_model()
    entries = [*list_models(), *([embedded] if embedded else [])]
    total, available = memory_now()
    hardware = HardwareState(total=total, available=available)
    found = [_facts(entry, hardware) for entry in entries]
    if as_json:
        console.write_json(found)
        return
    if not entries:
        console.note("no models; get one with: edge-llama pull ORG/NAME")
        return
    rows = [_HEADINGS, *(_shown(facts) for facts in found)]
    widths = {key: max(len(row[key]) for row in rows) for key in _HEADINGS}
    for row in rows:
        cells = [
            row[key].rjust(widths[key])
            if key in {"size", "context"}
            else row[key].ljust(widths[key])
            for key in _HEADINGS
        ]
        console.write("  ".join(cells).rstrip() + "\n")
    console.note(f"looked in: {', '.join(str(folder) for folder in model_folders())}")


def _facts(entry: Entry, hardware: HardwareState) -> dict[str, Any]:
    """Return a model as plain values; "problem" is what is wrong with its file."""
    from ..config import ModelConfig
    from ..filetypes import file_type, missing_bytes
    from ..gguf_file import inspect
    from ..memory import plan_memory

    facts: dict[str, Any] = {
        "name": entry.name,
        "path": str(entry.path),
        "origin": entry.origin,
        "files": len(entry.files),
        "bytes": sum(file.stat().st_size for file in entry.files),
    }
    try:
        info = inspect(entry.path)
    except ModelFileError as error:
        return {**facts, "problem": str(error)}
    facts |= {
        "type": file_type(info),
        "parameters": info.n_parameters,
        "context_length": info.context_length,
    }
    if missing := missing_bytes(info):
        return {**facts, "problem": f"{missing:,} bytes of it were never written"}
    try:
        plan = plan_memory(info, ModelConfig(), hardware)
    except OutOfMemoryError as error:
        return {**facts, "fits": False, "reason": str(error)}
    return {**facts, "fits": True, "n_ctx": plan.n_ctx, "memory": plan.host.total}


def _shown(facts: dict[str, Any]) -> dict[str, str]:
    from ..units import format_bytes

    if "problem" in facts:
        fits = "damaged: see edge-llama inspect"
    elif facts["fits"]:
        fits = f"{facts['n_ctx']:,} tokens in {format_bytes(facts['memory'])}"
    else:
        fits = "no"
    return {
        "name": one_line(facts["name"]),
        "size": format_bytes(facts["bytes"]),
        "type": facts.get("type", "?"),
        "context": f"{facts['context_length']:,}" if "context_length" in facts else "?",
        "fits": fits,
    }
