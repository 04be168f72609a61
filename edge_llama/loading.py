"""From a checked file to a loaded model, with progress, cancelled by the one who is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import LoadCancelledError, ModelFileError, one_line
from .native import NativeModel
from .readahead import read_ahead

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .config import ModelConfig
    from .gguf_file import GGUFInfo

#: The part of the progress that is reading; what follows is short once the file is cached.
_READING = 0.9


def load(
    info: GGUFInfo, config: ModelConfig, on_progress: Callable[[float], object] | None = None
) -> NativeModel:
    """Load the weights; ``on_progress`` gets the fraction and returns False, or raises, to end it.

    Raises:
        LoadCancelledError: ``on_progress`` ended the load, of which nothing is left.
        ModelFileError: llama.cpp refuses the file, or it can no longer be read.
    """
    tell = teller(info.path, on_progress)
    tell(0.0)
    share = _READING if config.mmap else 0.0
    if config.mmap:
        try:
            read_ahead(info.parts, lambda done: tell(share * done))
        except OSError as error:
            raise ModelFileError(
                f"{info.path}: {error.strerror or error}", hint="Check the file and its disk."
            ) from error
    return NativeModel(
        info.path,
        config,
        lambda done: tell(share + (1 - share) * done),
        tensors=info.tensors,
    )


def teller(path: Path, on_progress: Callable[[float], object] | None) -> Callable[[float], None]:
    """Return what passes the progress on, and raises LoadCancelledError when it is to end."""

    def tell(done: float) -> None:
        if on_progress is None:
            return
        try:
            go_on = on_progress(done)
        except Exception as error:
            cause = one_line(f"{type(error).__name__}: {error}")
            raise LoadCancelledError(
                f"{path}: the load was ended by {cause}",
                hint="The progress callback raised it; open the model again.",
            ) from error
        if go_on is not None and not go_on:
            raise LoadCancelledError(
                f"{path}: the load was cancelled", hint="Open the model again to go on."
            )

    return tell
