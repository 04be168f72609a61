"""Build hook: compile our libraries into the wheel when there is a compiler, else go without.

They are loaded with ctypes and need no Python headers, so one wheel serves every Python of a
platform. Without them the converter falls back to ggml's own quantisers (same bytes, slower) and
the engine to llama.cpp's way of choosing a token (same tokens, slower by a few percent).
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags


class KernelBuildHook(BuildHookInterface[Any]):
    """Compiles them before a wheel (or an editable install) is assembled."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the libraries in the source tree and tag the wheel for this platform."""
        del version
        if self.target_name != "wheel" or os.environ.get("EDGE_LLAMA_NO_KERNELS"):
            return
        folder = Path(self.root) / "convert" / "kernels"
        spec = importlib.util.spec_from_file_location("kernel_build", folder / "build.py")
        if spec is None or spec.loader is None:
            return
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        try:
            libraries = module.build_all(Path(self.root))
        except module.BuildError as error:
            self.app.display_warning(f"edge-llama is built without its fast kernels: {error}")
            return
        build_data["artifacts"] += libraries
        build_data["pure_python"] = False
        platform = next(iter(sys_tags())).platform
        build_data["tag"] = f"py3-none-{platform}"
