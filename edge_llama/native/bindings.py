"""llama-cpp-python's low-level bindings, without its high-level half.

``import llama_cpp.llama_cpp`` runs the package's ``__init__`` first, which imports ``Llama``, chat
formats, a server's types: several times the work of the bindings themselves, and 11 MB.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from typing import Any

_PACKAGE = "llama_cpp"


def load_bindings() -> Any:
    """Return the module ``llama_cpp.llama_cpp``.

    The package's ``__init__`` runs when someone first asks the package for something, so the
    host program's own ``import llama_cpp`` gets all of it.

    Raises:
        ImportError, OSError, RuntimeError, AttributeError: it is missing or broken.
    """
    if _PACKAGE not in sys.modules:
        _defer_package()
    return importlib.import_module(f"{_PACKAGE}.llama_cpp")


def _defer_package() -> None:
    """Put the package into ``sys.modules`` with an ``__init__`` that runs on demand (PEP 562)."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.loader is None:
        raise ImportError(f"No module named {_PACKAGE!r}", name=_PACKAGE)
    package, loader, lock = importlib.util.module_from_spec(spec), spec.loader, threading.RLock()
    running = False

    def attribute(name: str) -> Any:
        nonlocal running
        with lock:  # another thread waits until everything is there
            if "__getattr__" in package.__dict__ and not running:
                running = True
                try:
                    loader.exec_module(package)
                    del package.__dict__["__getattr__"]
                finally:
                    running = False
        try:
            return package.__dict__[name]
        except KeyError:
            message = f"module {_PACKAGE!r} has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=package) from None

    package.__dict__["__getattr__"] = attribute
    sys.modules.setdefault(_PACKAGE, package)
