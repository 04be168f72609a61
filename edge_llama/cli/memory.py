"""Memory tables: what a model would need, and what an open one has."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from rich.table import Table

    from ..gguf_file import GGUFInfo
    from ..memory import MemoryReceipt

#: Contexts that the table of needs has columns for, up to what the model was trained on (tokens).
_CONTEXTS = (2048, 4096, 8192, 16384, 32768, 65536, 131072)


def needs(info: GGUFInfo) -> dict[str, dict[int, int]]:
    """Return what a model adds to a process, in bytes, by KV type and context; header only."""
    from ..config import KVCacheType
    from ..memory import comfortable, estimate, read_facts

    facts = read_facts(info)
    contexts = [size for size in _CONTEXTS if size <= facts.n_ctx_train] or [facts.n_ctx_train]
    return {
        kind: {
            n_ctx: estimate(facts, comfortable(facts, n_ctx, kind))[0].total for n_ctx in contexts
        }
        for kind in get_args(KVCacheType)
    }


def needs_table(info: GGUFInfo) -> Table:
    """Show :func:`needs`."""
    from rich.table import Table

    from ..units import format_bytes

    rows = needs(info)
    table = Table(
        title="memory by KV cache and context", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("")
    for n_ctx in next(iter(rows.values())):
        table.add_column(f"{n_ctx:,}", justify="right")
    for kind, sizes in rows.items():
        table.add_row(kind, *(format_bytes(size) for size in sizes.values()))
    return table


def receipt_table(receipt: MemoryReceipt) -> Table:
    """Show planned beside measured."""
    from rich.table import Table

    from ..units import format_bytes

    plan, process = receipt.plan, receipt.process
    table = Table("", "planned", "measured", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for place, planned, measured in (
        ("", plan.host, receipt.host),
        (f" ({plan.device})", plan.gpu, receipt.gpu),
    ):
        for field in dataclasses.fields(planned):
            sizes = getattr(planned, field.name), getattr(measured, field.name)
            if any(sizes):
                name = field.name.replace("_", " ") + place
                table.add_row(name, *(format_bytes(size) for size in sizes))
    table.add_row("before the model", "", format_bytes(plan.process))
    table.add_row("whole process", format_bytes(plan.total), format_bytes(process.resident))
    if process.proportional is not None:
        table.add_row("shared pages by share (PSS)", "", format_bytes(process.proportional))
    if process.peak is not None:
        table.add_row("peak", "", format_bytes(process.peak))
    if plan.budget is not None:
        table.add_row("budget", format_bytes(plan.budget), "")
    return table


def memory_facts(receipt: MemoryReceipt) -> dict[str, Any]:
    """Return the receipt as plain values, in bytes."""
    return dataclasses.asdict(receipt)
