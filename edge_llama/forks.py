"""A model lives in the process that opened it: its threads do not come along in a fork."""

from __future__ import annotations

import os

from .errors import StateError


class Home:
    """The process in which this was made, for ``what`` can live in no other."""

    def __init__(self, what: str = "the model") -> None:
        self._what, self._pid = what, os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this still is that process, and not a fork of it."""
        return os.getpid() == self._pid

    def check(self) -> None:
        """Raise StateError in a fork, where whoever waits would wait for ever."""
        if not self.is_here:
            raise StateError(
                f"{self._what} runs in process {self._pid}; this one, {os.getpid()}, was forked "
                "from it",
                hint="Open a model in this process with isolate=True, or start processes with "
                "multiprocessing's 'spawn'.",
            )
