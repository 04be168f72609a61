"""A file on a hub: asked for from any byte on, or read in part like a file that is here."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

import httpx2
from huggingface_hub import constants, get_session, hf_raise_for_status

from ..errors import HubError
from .explain import explained

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from typing_extensions import Buffer

    from .files import HubFile
    from .ids import HubId

#: Bytes per request for a part: the headers of most safetensors files fit.
_BLOCK = 32 * 1024


@dataclass(frozen=True)
class Remote:
    """A file, its address, and the headers of a request for it, which may hold a token."""

    id: HubId
    file: HubFile
    url: str
    headers: Mapping[str, str]

    @contextlib.contextmanager
    def request(self, begin: int, end: int | None = None) -> Iterator[httpx2.Response]:
        """Yield the answer for the bytes from ``begin`` up to ``end``, by default all.

        The client drops the token when the hub sends it on to another host. A server that
        ignores the range answers with 200 instead of 206.

        Raises:
            HTTPError: the hub refuses or cannot be reached.
        """
        wanted = {**self.headers, "Accept-Encoding": "identity"}
        if begin or end is not None:
            wanted["Range"] = f"bytes={begin}-{'' if end is None else end - 1}"
        with get_session().stream(
            "GET", self.url, headers=wanted, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
        ) as response:
            hf_raise_for_status(response)
            yield response

    def open(self) -> BinaryIO:
        """Return a file object; it asks the hub for the blocks that are read, when they are.

        Its methods raise HubError.
        """
        return cast("BinaryIO", io.BufferedReader(_Ranges(self), _BLOCK))


class _Ranges(io.RawIOBase):
    def __init__(self, remote: Remote) -> None:
        self._remote, self._at = remote, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        size = self._remote.file.size
        self._at = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: size}[whence] + offset
        return self._at

    def readinto(self, buffer: Buffer) -> int:
        view, remote = memoryview(buffer), self._remote
        count = min(len(view), remote.file.size - self._at)
        if count <= 0:
            return 0
        done = 0
        with explained(remote.id), remote.request(self._at, self._at + count) as response:
            if response.status_code != httpx2.codes.PARTIAL_CONTENT:
                raise HubError(
                    f"{remote.id}: the hub does not send parts of {remote.file.name}",
                    hint="Download the model into a folder, and convert that.",
                )
            for chunk in response.iter_raw():
                part = chunk[: count - done]
                view[done : done + len(part)] = part
                done += len(part)
                if done == count:
                    break
        self._at += done
        return done
