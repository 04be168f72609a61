"""``edge-llama doctor``: what this installation can do, what it lacks, and what is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from . import console, options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..doctor import Check

_STYLES = {"ok": "green", "absent": "dim", "wrong": "bold red"}


def doctor(as_json: options.AsJSON = False) -> None:
    """Check the installation: llama.cpp, GPUs, memory, packages, folders.

    Shows the command that would add what is absent or repair what is wrong. Exits with 1 if
    something is wrong.
    """
    checks = []
    for check in _checks():
        checks.append(check)
        if not as_json:
            _show(check)
    wrong = [check.name for check in checks if check.state == "wrong"]
    if as_json:
        console.write_json({"ok": not wrong, "checks": checks})
    else:
        console.note(f"wrong: {', '.join(wrong)}" if wrong else "nothing is wrong")
    if wrong:
        raise typer.Exit(1)


def _checks() -> Iterator[Check]:
    from ..doctor import examine

    yield from examine()
    yield _check_kernels()


def _check_kernels() -> Check:
    """Say which code quantises; the converter is asked here, because only commands know it."""
    from edge_llama_convert.kernels import load_kernels

    from ..doctor import Check

    kernels = load_kernels()
    if kernels is not None:
        return Check("converter", "ok", f"quantises with its own {kernels.isa} kernels")
    return Check(
        "converter",
        "absent",
        "quantises with ggml's code, several times slower: its own kernels were not compiled "
        "(a C++ compiler is needed), or EDGE_LLAMA_KERNELS=0 is set",
        ("pip install --force-reinstall --no-deps --no-binary edge-llama edge-llama",),
    )


def _show(check: Check) -> None:
    from rich.text import Text

    line = Text.assemble(
        (f"{check.state:7}", _STYLES[check.state]), f"{check.name}: {check.detail}"
    )
    for remedy in check.remedies:
        line.append(f"\n       {remedy}")
    console.stdout.print(line, soft_wrap=True)
