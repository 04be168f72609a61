"""What PyInstaller needs to know to put edge-llama into an application.

It finds this folder by the entry point ``pyinstaller40``, so there is nothing to configure:
https://pyinstaller.org/en/stable/hooks.html#provide-hooks-with-package
"""

from __future__ import annotations

from pathlib import Path


def hook_dirs() -> list[str]:
    """Return the folders with hooks."""
    return [str(Path(__file__).parent)]
