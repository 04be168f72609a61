"""All findings but those of the converter, which the runtime knows nothing of."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
from typing import TYPE_CHECKING

from .. import __version__
from ..catalog import VARIABLE, embedded_model, landing_folder
from ..config import ModelConfig
from ..errors import EdgeLlamaError
from ..folders import data_folder
from ..gguf_file import inspect
from ..hardware import HardwareState, default_threads, memory_now
from ..memory import plan_memory
from ..units import format_bytes
from .check import Check
from .library import check_library, check_version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAME = re.compile(r"[\w.-]+")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([\w-]+)['"]""")

#: What constrained answers are computed with.
_GRAMMARS = "llguidance"

#: What the extras are for.
_EXTRAS = {"hub": "models by their id on the Hugging Face hub", "demo": "the embedded model"}


def examine() -> Iterator[Check]:
    """Yield the findings one by one; the slow ones last."""
    yield Check(
        "edge-llama",
        "ok",
        f"version {__version__}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}",
    )
    yield check_memory()
    yield from check_packages()
    yield check_embedded()
    yield check_folder("models", landing_folder(), f"Set {VARIABLE} to a folder that you own.")
    yield check_folder(
        "data", data_folder(), "Set EDGE_LLAMA_HOME to a folder that you own, or repair its rights."
    )
    yield check_version()
    yield from check_library()


def check_memory() -> Check:
    """Say how much memory is free."""
    total, available = memory_now()
    threads = default_threads()
    shown = [
        f"{format_bytes(available)} free" if available is not None else "unknown how much is free",
        f"{format_bytes(total)} in all" if total is not None else "",
        f"{threads} threads will compute",
    ]
    facts = {"available": available, "total": total, "threads": threads}
    return Check("memory", "ok", ", ".join(part for part in shown if part), (), facts)


def check_packages() -> Iterator[Check]:
    """Yield whether the packages that this one requires are there, and those of the extras."""
    try:
        requirements = importlib.metadata.requires("edge-llama") or []
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return
    needed = [_name(text) for text in requirements if not _EXTRA.search(text)]
    missing = [name for name in needed if _version(name) is None]
    yield Check(
        "packages",
        "wrong" if missing else "ok",
        f"missing: {', '.join(missing)}" if missing else f"all {len(needed)} are installed",
        (f"pip install {' '.join(missing)}",) if missing else (),
        {name: _version(name) for name in needed},
    )
    guidance = _version(_GRAMMARS)
    yield Check(
        "grammars",
        "ok" if guidance else "wrong",
        f"{_GRAMMARS} {guidance}" if guidance else f"{_GRAMMARS} is not installed",
        () if guidance else (f"pip install {_GRAMMARS}",),
    )
    for extra, use in _EXTRAS.items():
        names = [
            _name(text)
            for text in requirements
            if (found := _EXTRA.search(text)) and found[1] == extra
        ]
        missing = [name for name in names if _version(name) is None]
        versions = ", ".join(f"{name} {_version(name)}" for name in names)
        yield Check(
            f"extra {extra}",
            "absent" if missing else "ok",
            f"{use}: {', '.join(missing)} is missing" if missing else f"{use}: {versions}",
            (f"pip install 'edge-llama[{extra}]'",) if missing else (),
        )


def check_embedded() -> Check:
    """Say whether the embedded model is there, whole, and fits into memory now."""
    entry = embedded_model()
    if entry is None:
        remedies = ("pip install 'edge-llama[demo]'",)
        return Check("embedded model", "absent", "not installed", remedies)
    try:
        info = inspect(entry.path)
        total, available = memory_now()
        plan_memory(info, ModelConfig(), HardwareState(total=total, available=available))
    except EdgeLlamaError as error:
        return Check("embedded model", "wrong", str(error), (error.hint,))
    return Check("embedded model", "ok", f"{entry.name}, {format_bytes(info.nbytes)}, fits")


def check_folder(name: str, folder: Path, remedy: str) -> Check:
    """Say whether files can be written to a folder, which need not exist yet."""
    place = next((each for each in (folder, *folder.absolute().parents) if each.exists()), folder)
    facts = {"path": str(folder), "exists": place == folder}
    try:
        if not place.is_dir():
            raise NotADirectoryError(f"{place} is no folder")
        if place == folder:
            with tempfile.TemporaryFile(dir=folder):
                pass
        elif not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(f"{place} may not be written to")
        free = shutil.disk_usage(place).free
    except OSError as error:
        detail = f"{folder}: {error.strerror or error}"
        return Check(f"{name} folder", "wrong", detail, (remedy,), facts)
    later = "" if place == folder else ", made when it is needed"
    return Check(
        f"{name} folder", "ok", f"{folder}: writable, {format_bytes(free)} free{later}", (), facts
    )


def _name(requirement: str) -> str:
    match = _NAME.match(requirement)
    return match[0] if match else requirement


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
