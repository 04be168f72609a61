"""Slash commands that show something, and what is said after an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...units import format_bytes
from .. import console
from ..runtime import dropped, show_memory

if TYPE_CHECKING:
    from ...generate import Reply
    from .loop import Repl

_KEYS = """\
Alt-Enter, Ctrl-J or a \\ at the end go on in the next line; the up arrow goes back.
Ctrl-C stops an answer, a second one leaves, as Ctrl-D does.
A message that begins with a slash begins with two."""


def help_(repl: Repl, argument: str) -> None:
    """Show this."""
    del repl, argument
    from rich.table import Table
    from rich.text import Text

    from .commands import COMMANDS

    table = Table(box=None, show_header=False, pad_edge=False)
    for command in COMMANDS.values():
        table.add_row(*map(Text, (command.name, command.arguments, command.help)), style="dim")
    console.show(table)
    console.note(_KEYS)


def stats(repl: Repl, argument: str) -> None:
    """Show how fast the last answer was."""
    del argument
    reply, info, plan = repl.session.reply, repl.session.model.info, repl.session.model.plan
    console.note(f"{info.name} | {info.path} | {plan.device} | memory {format_bytes(plan.total)}")
    if reply is None:
        console.note("(no answer yet)")
        return
    console.note(speed(reply))


def memory(repl: Repl, argument: str) -> None:
    """Show what the model takes."""
    del argument
    show_memory(repl.session.model)


def bye(repl: Repl, argument: str) -> None:
    """Leave."""
    del repl, argument
    raise EOFError


def overflowed(reply: Reply, overflow: str) -> list[str]:
    """Return which policy made room for an answer, and what it dropped."""
    lines = [f"the context was full: {line} (--overflow {overflow})" for line in dropped(reply)]
    if reply.finish_reason == "context":
        lines.append(f"ended: the context of {reply.n_ctx} tokens is full; --ctx makes it larger")
    return lines


def endings(reply: Reply, overflow: str) -> list[str]:
    """Return what must not go unsaid about an answer: what was dropped, and why it ended."""
    reasons = {
        "length": "ended at max-tokens",
        "incomplete": "ended at max-tokens, inside the structure",
        "cancelled": "stopped; Ctrl-C again leaves",
    }
    reason = reasons.get(reply.finish_reason)
    return [*overflowed(reply, overflow), *([reason] if reason else [])]


def speed(reply: Reply) -> str:
    """Say in one line how fast an answer was, and how full the context is."""
    new = reply.prompt_tokens - reply.cached_tokens
    return (
        f"{reply.completion_tokens} tokens | {reply.tokens_per_second:.1f} tokens/s | "
        f"prompt {new} new + {reply.cached_tokens} cached in {reply.prefill_seconds:.2f} s "
        f"({reply.prefill_tokens_per_second:.0f} tokens/s) | seed {reply.seed} | "
        f"context {reply.context_tokens}/{reply.n_ctx}"
    )
