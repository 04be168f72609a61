"""Bring one file into huggingface_hub's cache: resumable, and verified before it has its name.

huggingface_hub itself begins a file anew when the process was interrupted (at least since its
version 1.20 a partial file gets a name of its own and is deleted), and compares no checksums.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, BinaryIO

import httpx2
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined] # loaded lazily

from ..errors import HubError
from .cache import damaged
from .files import hash_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from .cache import Cache
    from .files import Digest
    from .remote import Remote

#: What is written, and at most lost, at a time.
_CHUNK = 256 * 1024

#: How often in a row nothing new may arrive, and the wait in between, in seconds.
_TRIES, _WAIT = 5, 1.0

_BUSY = {408, 429, 500, 502, 503, 504}

#: Seconds to wait for another process that fetches the same file.
_LOCK_SECONDS = 2.0


def download(remote: Remote, cache: Cache, advance: Callable[[int], object]) -> None:
    """Bring the file's content into the cache, complete and verified.

    What an interrupted run left is gone on with. ``advance`` gets bytes as they arrive, and a
    negative number when they have to be fetched again.

    Raises:
        HubError: the content is damaged; it was removed. Another process fetches it.
        HTTPError, OSError: as huggingface_hub and the system report them.
    """
    file = remote.file
    content, lock = cache.content(file), cache.lock(file)
    for folder in (content.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with WeakFileLock(lock, timeout=_LOCK_SECONDS):
            if content.exists():  # another revision has the same
                cache.check(file, content, advance)
            else:
                _fetch(remote, cache, advance)
    except TimeoutError:
        raise HubError(
            f"{file.name}: another process is fetching it",
            hint="Let it finish, and run the command again.",
        ) from None


def _fetch(remote: Remote, cache: Cache, advance: Callable[[int], object]) -> None:
    file = remote.file
    partial, content = cache.partial(file), cache.content(file)
    with partial.open("ab") as out:
        if out.tell() > file.size:
            out.truncate(0)
        digest = file.digest()
        hash_file(partial, digest, advance)
        digest = _receive(remote, out, digest, advance)
        out.flush()
        os.fsync(out.fileno())
    if digest.hexdigest() != file.key:
        partial.unlink()
        raise damaged(file)
    partial.replace(content)
    cache.stamp(file, content)


def _receive(
    remote: Remote, out: BinaryIO, digest: Digest, advance: Callable[[int], object]
) -> Digest:
    """Append what is missing; return the digest of the whole. Broken connections are retried."""
    file, tries, furthest = remote.file, _TRIES, out.tell()
    while (done := out.seek(0, os.SEEK_END)) < file.size:
        try:
            with remote.request(done) as response:
                if done and response.status_code != httpx2.codes.PARTIAL_CONTENT:
                    out.truncate(0)
                    advance(-done)
                    digest = file.digest()
                for chunk in response.iter_raw(_CHUNK):
                    out.write(chunk)
                    digest.update(chunk)
                    advance(len(chunk))
                    if out.tell() > furthest:
                        tries, furthest = _TRIES, out.tell()
                    if furthest > file.size:  # then the digest is wrong, too
                        return digest
            if out.tell() < file.size:
                raise httpx2.RemoteProtocolError("the answer ended early")
        except (httpx2.TransportError, HfHubHTTPError) as error:
            tries -= 1
            final = isinstance(error, HfHubHTTPError) and error.response.status_code not in _BUSY
            if final or not tries:
                raise
            time.sleep(_WAIT)
    return digest
