"""Runs a Qt program as it is, in a process of its own, with someone at its window."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# The only thing that is touched is where the program hands over to the event loop: from there
# on a timer looks at the first window, and does what a user would.
_DRIVER = """
import os, runpy, sys, traceback
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

event_loop = QApplication.exec

def use(window):
{steps}

def use_window():
    windows = QApplication.topLevelWidgets()
    own = [one for one in windows if not type(one).__module__.startswith("PySide6")]
    try:
        use(own[0])
    except BaseException:
        traceback.print_exc()
        os._exit(3)

def exec_with_user(*_):
    timer = QTimer(interval=10)
    timer.timeout.connect(use_window)
    timer.start()
    return event_loop()

QApplication.exec = exec_with_user
del sys.argv[0]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""

#: What the offscreen platform says of itself.
_NOISE = "This plugin does not support propagateSizeHints()"


def run(program: Path, steps: str) -> subprocess.CompletedProcess[str]:
    """Run ``program``; ``steps`` are done to its ``window`` again and again."""
    driver = _DRIVER.format(steps=textwrap.indent(textwrap.dedent(steps), "    "))
    ended = subprocess.run(
        [sys.executable, "-c", driver, str(program)],
        capture_output=True,
        text=True,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        timeout=120,
        check=False,
    )
    lines = [line for line in ended.stderr.splitlines(keepends=True) if _NOISE not in line]
    ended.stderr = "".join(lines)
    return ended
