"""One state of a sequence in a file: its tokens, and llama.cpp's bytes for them.

Layout, little-endian: the magic ``ELST``, uint32 version, uint64 number of tokens, uint64 start
and length of the gap in them, uint64 bytes of the state, sha256 of head and content; then the
tokens as int32 and the state. A damaged state can abort llama.cpp, so nothing reaches it before
the checksum was right.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..cache import Gap, History

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC, _VERSION = b"ELST", 1
_HEAD, _CHECKSUM_BYTES = struct.Struct("<4sIQQQQ"), 32


class DamagedStateError(Exception):
    """The file is not a whole state; internal, it means a prefill and never reaches a user."""


@dataclass(frozen=True)
class StateFile:
    """A state file whose head was read; the state itself is read on demand.

    Attributes:
        path: the file.
        history: what it is the state of.
        nbytes: size of the state in bytes.
    """

    path: Path
    history: History
    nbytes: int

    @classmethod
    def open(cls, path: Path) -> StateFile:
        """Read head and tokens.

        Raises:
            DamagedStateError: no state file, of another version, or not of the size it states.
            OSError: it cannot be read.
        """
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
            n_tokens, start, length, nbytes = _parse(head)
            file.seek(_CHECKSUM_BYTES, os.SEEK_CUR)
            size = _HEAD.size + _CHECKSUM_BYTES + 4 * n_tokens + nbytes
            if os.fstat(file.fileno()).st_size != size or start + length > n_tokens:
                raise DamagedStateError(f"{path}: truncated")
            tokens = np.frombuffer(file.read(4 * n_tokens), dtype="<i4").tolist()
        return cls(path, History(tokens, Gap(start, length)), nbytes)

    def load(self) -> bytes:
        """Return the state's bytes, checked.

        Raises:
            DamagedStateError: the content changed. OSError: it cannot be read.
        """
        with self.path.open("rb") as file:
            head, checksum = file.read(_HEAD.size), file.read(_CHECKSUM_BYTES)
            n_tokens, *_ = _parse(head)
            tokens, state = file.read(4 * n_tokens), file.read(self.nbytes)
        expected = _pack(self.history, self.nbytes)
        if (head, tokens) != expected or _checksum(head, tokens, state) != checksum:
            raise DamagedStateError(f"{self.path}: the checksum is wrong")
        return state


def write_state(path: Path, history: History, state: bytes | memoryview) -> None:
    """Write a state under a temporary name and give it ``path``; OSError when that fails.

    Without fsync: after a power cut the checksum is wrong, which costs a prefill and nothing else.
    """
    head, tokens = _pack(history, len(state))
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.writelines((head, _checksum(head, tokens, state), tokens, state))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _pack(history: History, nbytes: int) -> tuple[bytes, bytes]:
    head = _HEAD.pack(_MAGIC, _VERSION, len(history.tokens), *history.gap, nbytes)
    return head, np.asarray(history.tokens, dtype="<i4").tobytes()


def _parse(head: bytes) -> tuple[int, int, int, int]:
    if len(head) != _HEAD.size:
        raise DamagedStateError("truncated")
    magic, version, n_tokens, start, length, nbytes = _HEAD.unpack(head)
    if (magic, version) != (_MAGIC, _VERSION):
        raise DamagedStateError("not a state file of this version")
    return n_tokens, start, length, nbytes


def _checksum(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()
