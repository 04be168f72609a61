"""A model in a supervised child process: a native crash there is an exception here.

``messages``, ``codec`` and ``frames`` are what is said over the pipe, ``spawn`` begins a child and
describes its end, ``log`` carries its log over, ``link`` is this side of one child, ``client``
begins another when one has died; ``server`` and ``child`` are the other side.
"""

from .client import Worker
from .spawn import freeze_support

__all__ = ["Worker", "freeze_support"]
