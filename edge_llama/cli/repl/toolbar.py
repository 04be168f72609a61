"""The line below the input: how fast the last answer was, and how full the context is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...hardware import resident_memory
from ...units import format_bytes

if TYPE_CHECKING:
    from .session import Session


def status_line(session: Session, width: int) -> str:
    """Return as much of the status as fits into ``width`` cells, the most important first."""
    reply = session.reply
    used = 0 if reply is None else reply.context_tokens
    parts = [f"context {used}/{session.model.n_ctx}"]
    if reply is not None:
        parts += [
            f"{reply.tokens_per_second:.1f} tokens/s",
            f"prefill {reply.prefill_seconds:.2f} s",
        ]
    parts.append(f"memory {format_bytes(resident_memory())}")
    if session.attached:
        parts.insert(0, f"{len(session.attached)} attached")
    if session.persona.schema is not None:
        parts.append("schema on")
    if session.store is None:
        parts.append("not kept")
    elif session.id is not None:
        parts.append(f"#{session.id}")
    line = parts[0]
    for part in parts[1:]:
        if len(line) + 3 + len(part) > width:
            break
        line += " | " + part
    return line[:width]
