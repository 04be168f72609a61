"""The pre-flight: refuses files with which llama.cpp would end the process, and says why.

llama.cpp checks much and throws, which becomes an error; but many of its checks are assertions,
and some things it does not check at all. Each rule here names what it prevents. Files of the
``llama`` architecture are checked in full; of others only what llama.cpp asserts for all of them.
"""

from __future__ import annotations

from .check import check

__all__ = ["check"]
