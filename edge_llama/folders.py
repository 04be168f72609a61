"""Where edge-llama keeps what is the user's: conversations, personas, and what can be made again.

``EDGE_LLAMA_HOME`` puts all of it into one folder; otherwise each is where the system wants it.
"""

from __future__ import annotations

import os
from pathlib import Path

_HOME = "EDGE_LLAMA_HOME"
_APP = "edge-llama"


def data_folder() -> Path:
    """Return the folder of what cannot be made again: the conversations."""
    import platformdirs

    return _home() or platformdirs.user_data_path(_APP, appauthor=False)


def config_folder() -> Path:
    """Return the folder of what people write themselves: personas."""
    import platformdirs

    return _home() or platformdirs.user_config_path(_APP, appauthor=False)


def cache_folder() -> Path:
    """Return the folder of what may be deleted at any time: states of conversations."""
    import platformdirs

    home = _home()
    return home / "cache" if home else platformdirs.user_cache_path(_APP, appauthor=False)


def states_folder() -> Path:
    """Return the folder of what chats have read, if they are not told another one."""
    return cache_folder() / "states"


def _home() -> Path | None:
    home = os.environ.get(_HOME)
    return Path(home).expanduser() if home else None
