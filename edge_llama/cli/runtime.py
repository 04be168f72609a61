"""What the commands that run a model have in common."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from . import console
from .loadbar import load_bar

if TYPE_CHECKING:
    from ..config import ModelConfig
    from ..generate import Reply
    from ..model import Model
    from ..stream import Stream


def open_model(name: str | None, config: ModelConfig) -> Model:
    """Find and open the model called ``name``, with a bar if that takes long.

    What had to be given up for memory is said.
    """
    from ..catalog import find_model
    from ..model import Model

    path = find_model(name)
    with load_bar(path.name) as bar:
        model = Model.open(path, config, on_progress=bar)
    for note in model.plan.notes:
        console.note(f"({note})")
    return model


def show_memory(model: Model) -> None:
    """Show what the model takes, planned beside measured."""
    from .memory import receipt_table

    console.show(receipt_table(model.memory()))


def read_stdin() -> str:
    """Return all of standard input, without the line end that ``echo`` adds."""
    data = sys.stdin.buffer.read()
    return data.decode("utf-8", errors="replace").removesuffix("\n")


def write_stream(stream: Stream) -> Reply:
    """Write the text as it comes. Ctrl-C cancels, keeps what was said, and raises again."""
    try:
        for text in stream:
            console.write_untrusted(text)
    except KeyboardInterrupt:
        stream.cancel()
        for text in stream:  # what was generated before the cancel took effect
            console.write_untrusted(text)
        raise
    return stream.reply


def show_logprobs(reply: Reply) -> None:
    """Show, if they were asked for, each token's log probability and the likeliest tokens'."""
    for chosen in reply.logprobs:
        first, *others = [f"{one.text!r} {one.logprob:.3f}" for one in (chosen, *chosen.top)]
        console.note(f"{first} | {'  '.join(others)}" if others else first)


def dropped(reply: Reply) -> list[str]:
    """Say what had to leave the context so that the rest could stay, if anything."""
    lines = []
    if reply.dropped_turns:
        lines.append(f"the {reply.dropped_turns} oldest turns dropped")
    if reply.dropped_tokens:
        lines.append(f"the {reply.dropped_tokens} oldest tokens dropped")
    return lines
