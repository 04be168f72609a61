"""The low-level bindings come without llama-cpp-python's high-level half, and harm it not."""

from __future__ import annotations

import subprocess
import sys

_LAZY = """
import sys, threading
from edge_llama.native import bindings
module = bindings.load_bindings()
assert "llama_cpp.llama" not in sys.modules, "the package was initialised"
found, start = [], threading.Barrier(4)
def host():
    start.wait()
    from llama_cpp import Llama, llama_decode
    found.append((Llama.__name__, llama_decode is module.llama_decode))
threads = [threading.Thread(target=host) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert found == [("Llama", True)] * 4, found
import llama_cpp
assert llama_cpp.llama_cpp is module and llama_cpp.__version__
try:
    llama_cpp.no_such_name
except AttributeError as error:
    assert str(error) == "module 'llama_cpp' has no attribute 'no_such_name'", error
"""

_AFTER_THE_HOST = """
import llama_cpp
from edge_llama.native import bindings
assert bindings.load_bindings() is llama_cpp.llama_cpp and llama_cpp.Llama
"""


def _run(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_host_may_import_the_package_later_from_several_threads() -> None:
    _run(_LAZY)


def test_a_package_that_the_host_imported_is_used() -> None:
    _run(_AFTER_THE_HOST)
