"""What a saved state depends on, as one text: another model or setting, another fingerprint.

llama.cpp itself restores a state over other weights of the same shape, or another rope base, and
then answers wrongly; so nothing is restored unless this is equal.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from ..errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: Bytes from the beginning (the metadata), and of each of so many places, that are hashed.
_HEAD, _PLACES, _PIECE = 1 << 16, 64, 1 << 12


def fingerprint(files: Sequence[Path], settings: Mapping[str, object]) -> str:
    """Return 32 hexadecimal digits that identify the model ``files`` under ``settings``.

    Of each file, its size, its time of change and a sample of its bytes count (0.3 MB, spread
    evenly: two trainings of one model differ everywhere). ``settings`` are all values that change
    what the cache holds (library version, cache types, rope).

    Raises:
        ModelFileError: a file cannot be read.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for path in files:
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                digest.update(f"{size} {path.stat().st_mtime_ns}".encode())
                for place in range(_PLACES):
                    file.seek(size * place // _PLACES)
                    digest.update(file.read(_PIECE if place else _HEAD))
        except OSError as error:
            raise ModelFileError(
                f"{path}: {error.strerror or error}", hint="Check the file and its permissions."
            ) from error
    return digest.hexdigest()[:32]
