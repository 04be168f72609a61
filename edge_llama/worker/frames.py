"""Frames on a pipe: four bytes of length, little-endian, then JSON in UTF-8."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

_LENGTH = struct.Struct("<I")
_READ = 65536

#: A frame from the child may be that long: token ids of the longest contexts take 8 MB.
MAX_FROM_CHILD = 64 << 20
MAX_FROM_PARENT = 1 << 30


class ProtocolError(Exception):
    """What came over the pipe makes no sense; never leaves this package."""


def pack(message: Any) -> bytes:
    """Return ``message``, made of what JSON has, as a frame."""
    data = json.dumps(message, separators=(",", ":")).encode()
    return _LENGTH.pack(len(data)) + data


def write(fd: int, frame: bytes) -> None:
    """Write all of a frame; OSError when nobody reads."""
    rest = memoryview(frame)
    while rest:
        rest = rest[os.write(fd, rest) :]


class FrameReader:
    """Reads frames from a file descriptor; one thread."""

    def __init__(self, fd: int, limit: int) -> None:
        self._fd, self._limit = fd, limit
        self._data = bytearray()

    def read(self) -> Any:
        """Wait for the next message; None at the end of the pipe.

        Raises:
            ProtocolError: it is too long, or no JSON.
        """
        if not self._fill(_LENGTH.size):
            return None
        (length,) = _LENGTH.unpack_from(self._data)
        if length > self._limit:
            raise ProtocolError(f"a message of {length} bytes")
        end = _LENGTH.size + length
        if not self._fill(end):
            return None
        data = bytes(self._data[_LENGTH.size : end])
        del self._data[:end]
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"no JSON: {error}") from error

    def _fill(self, length: int) -> bool:
        while len(self._data) < length:
            try:
                more = os.read(self._fd, _READ)
            except OSError:
                return False
            if not more:
                return False
            self._data += more
        return True
