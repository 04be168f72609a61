"""One state of a sequence in a file: its tokens, and llama.cpp's bytes for them.

Layout, little-endian: the magic ``ELST``, uint32 version, uint64 number of tokens, uint64 bytes
of the state, sha256 of all that follows; then the tokens as int32 and the state. A damaged state
can abort llama.cpp, so nothing reaches it before the checksum was right.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Tokens = npt.NDArray[np.int32]

_MAGIC, _VERSION = b"ELST", 1
_HEAD = struct.Struct("<4sIQQ32s")


class DamagedStateError(Exception):
    """The file is not a whole state; internal, it means a prefill and never reaches a user."""


@dataclass(frozen=True)
class StateFile:
    """A state file whose head was read; the state itself is read on demand."""

    path: Path
    tokens: Tokens
    nbytes: int

    @classmethod
    def open(cls, path: Path) -> StateFile:
        """Read head and tokens, int32 ``[n]``.

        Raises:
            DamagedStateError: no state file, of another version, or not of the size it states.
            OSError: it cannot be read.
        """
        with path.open("rb") as file:
            n_tokens, nbytes, _ = _read_head(file.read(_HEAD.size))
            if os.fstat(file.fileno()).st_size != _HEAD.size + 4 * n_tokens + nbytes:
                raise DamagedStateError(f"{path}: truncated")
            tokens = np.frombuffer(file.read(4 * n_tokens), dtype="<i4")
        return cls(path, tokens, nbytes)

    def load(self) -> bytes:
        """Return the state's bytes, checked.

        Raises:
            DamagedStateError: the content changed. OSError: it cannot be read.
        """
        with self.path.open("rb") as file:
            n_tokens, nbytes, checksum = _read_head(file.read(_HEAD.size))
            tokens, state = file.read(4 * n_tokens), file.read(nbytes)
        if _checksum(tokens, state) != checksum or tokens != self.tokens.tobytes():
            raise DamagedStateError(f"{self.path}: the checksum is wrong")
        return state


def write_state(path: Path, tokens: Tokens, state: bytes | memoryview) -> None:
    """Write a state under a temporary name and give it ``path``; OSError when that fails.

    Without fsync: after a power cut the checksum is wrong, which costs a prefill and nothing else.
    """
    packed = np.ascontiguousarray(tokens, dtype="<i4").tobytes()
    head = _HEAD.pack(_MAGIC, _VERSION, len(tokens), len(state), _checksum(packed, state))
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.writelines((head, packed, state))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_head(data: bytes) -> tuple[int, int, bytes]:
    if len(data) != _HEAD.size:
        raise DamagedStateError("truncated")
    magic, version, n_tokens, nbytes, checksum = _HEAD.unpack(data)
    if (magic, version) != (_MAGIC, _VERSION):
        raise DamagedStateError("not a state file of this version")
    return n_tokens, nbytes, checksum


def _checksum(tokens: bytes, state: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(tokens)
    digest.update(state)
    return digest.digest()
