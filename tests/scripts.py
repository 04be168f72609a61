"""Python code that needs a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def run_script(code: str, *, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run indented code with this interpreter; its exit code is the caller's to judge."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
