"""Where the members of an uncompressed zip archive lie, so that their bytes can be streamed.

Format: PKWARE's APPNOTE.TXT, sections 4.3.6 to 4.3.16 (zip64 included, which archives beyond
4 GiB need). Every count and offset is held against the size of the file before it is believed;
nothing is ever decompressed, so an archive cannot unfold into more than it is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from .errors import SourceError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

AGAIN = "The download is probably incomplete; fetch the file again."

#: Bounds for the list of members; the largest real checkpoints have a few thousand.
MAX_MEMBERS = 200_000
MAX_DIRECTORY_BYTES = 64 * 1024 * 1024

_END = struct.Struct("<4s4H2IH")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_IN_ZIP64 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Member:
    """One stored member: where its data begins in the file, and its size, in bytes."""

    name: str
    offset: int
    nbytes: int


class ZipIndex:
    """The members of the open archive ``file``; ``path`` is for messages."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        """Read the list of members.

        Raises:
            SourceError: no archive, truncated, or its list of members is damaged.
        """
        self._file, self._path = file, path
        self._size = file.seek(0, 2)
        count, nbytes, self._directory = self._find_directory()
        if count > MAX_MEMBERS or nbytes > MAX_DIRECTORY_BYTES:
            self._fail(f"claims {count:,} members, not plausible for a checkpoint")
        self._entries = self._read_entries(count, self._read(self._directory, nbytes))

    @property
    def names(self) -> list[str]:
        """Names of all members, in the archive's order."""
        return list(self._entries)

    def member(self, name: str) -> Member:
        """Return where the data of member ``name`` is.

        Raises:
            SourceError: there is no such member, or it lies outside the file.
            UnsupportedError: the member is compressed or encrypted.
        """
        try:
            method, nbytes, header = self._entries[name]
        except KeyError:
            self._fail(f"the archive has no member {name}")
        local = self._read(header, _LOCAL.size)
        signature, _, flags, local_method, *_, name_bytes, extra_bytes = _LOCAL.unpack(local)
        if signature != b"PK\3\4":
            self._fail(f"member {name} is not where the list of members says")
        if method or local_method or flags & 1:
            raise UnsupportedError(
                f"{self._path}: member {name} is compressed or encrypted",
                hint="torch.save stores members as they are; save the checkpoint again with it.",
            )
        offset = header + _LOCAL.size + name_bytes + extra_bytes
        if self._read(header + _LOCAL.size, name_bytes) != name.encode():
            self._fail(f"member {name} has another name at its place")
        if offset + nbytes > self._directory:
            self._fail(f"member {name} reaches beyond the end of the data")
        return Member(name, offset, nbytes)

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of member ``name``; SourceError when it is larger than ``limit``."""
        member = self.member(name)
        if member.nbytes > limit:
            self._fail(
                f"member {name} has {member.nbytes:,} bytes, more than the {limit:,} allowed"
            )
        return self._read(member.offset, member.nbytes)

    def _fail(self, problem: str) -> NoReturn:
        raise SourceError(f"{self._path}: {problem}", hint=AGAIN)

    def _read(self, offset: int, count: int) -> bytes:
        if not 0 <= offset <= offset + count <= self._size:
            self._fail(f"truncated: byte {offset + count:,} is needed, the file has {self._size:,}")
        self._file.seek(offset)
        data = self._file.read(count)
        if len(data) != count:
            self._fail("the file became shorter while being read")
        return data

    def _find_directory(self) -> tuple[int, int, int]:
        """Return number of members, and size and offset of the central directory."""
        tail_at = max(0, self._size - _END.size - 0xFFFF)
        tail = self._read(tail_at, self._size - tail_at)
        at = tail.rfind(b"PK\5\6", 0, len(tail) - _END.size + 4)
        if at < 0:
            self._fail("no zip archive or truncated: the list of members at its end is missing")
        _, _, _, _, count, nbytes, offset, _ = _END.unpack_from(tail, at)
        end_at = tail_at + at
        if end_at >= _END64_LOCATOR.size:
            locator = self._read(end_at - _END64_LOCATOR.size, _END64_LOCATOR.size)
            signature, _, end64_at, _ = _END64_LOCATOR.unpack(locator)
            if signature == b"PK\6\7":
                end64 = _END64.unpack(self._read(end64_at, _END64.size))
                if end64[0] != b"PK\6\6":
                    self._fail("the archive's zip64 record is not where it should be")
                count, nbytes, offset = end64[7:]
        if offset + nbytes > end_at:
            self._fail("the archive's list of members reaches beyond its end")
        return count, nbytes, offset

    def _read_entries(self, count: int, raw: bytes) -> dict[str, tuple[int, int, int]]:
        """Return (method, bytes, offset of the local header) by name."""
        entries: dict[str, tuple[int, int, int]] = {}
        at = 0
        for _ in range(count):
            if at + _ENTRY.size > len(raw):
                self._fail("the archive's list of members is truncated")
            fields = _ENTRY.unpack_from(raw, at)
            if fields[0] != b"PK\1\2":
                self._fail("the archive's list of members is damaged")
            method, packed, plain = fields[4], fields[8], fields[9]
            name_bytes, extra_bytes, comment_bytes, header = *fields[10:13], fields[16]
            at += _ENTRY.size
            name = raw[at : at + name_bytes].decode("utf-8", errors="replace")
            extra = raw[at + name_bytes : at + name_bytes + extra_bytes]
            at += name_bytes + extra_bytes + comment_bytes
            packed, plain, header = self._widen(name, extra, packed, plain, header)
            if name in entries:
                self._fail(f"member {name} is listed twice")
            # Stored members have one size; any other is found out when it is asked for.
            entries[name] = (method or int(packed != plain), plain, header)
        return entries

    def _widen(
        self, name: str, extra: bytes, packed: int, plain: int, header: int
    ) -> tuple[int, int, int]:
        """Replace the numbers that did not fit 32 bits by those of the zip64 extra field."""
        at = 0
        while at + 4 <= len(extra):
            tag, length = struct.unpack_from("<2H", extra, at)
            field = extra[at + 4 : at + 4 + length]
            at += 4 + length
            if tag != 1:
                continue
            wide = iter(struct.unpack_from(f"<{len(field) // 8}Q", field))
            try:
                plain = next(wide) if plain == _IN_ZIP64 else plain
                packed = next(wide) if packed == _IN_ZIP64 else packed
                header = next(wide) if header == _IN_ZIP64 else header
            except StopIteration:
                self._fail(f"member {name} has a damaged zip64 field")
        return packed, plain, header
