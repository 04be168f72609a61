"""PyInstaller's hook for llama_cpp: its shared libraries, which ctypes loads from its folder.

The package's high-level half, which edge-llama does not use, would bring an HTTP client, a database
and what else it can work with. An application that wants ``llama_cpp.Llama`` asks for it with
``--hidden-import llama_cpp.llama``.
"""

from __future__ import annotations

from PyInstaller.utils.hooks import collect_dynamic_libs

hiddenimports = ["llama_cpp.llama_cpp"]
excludedimports = ["llama_cpp.llama"]
binaries = collect_dynamic_libs("llama_cpp")
