"""A model's files at one commit: on the hub, and in huggingface_hub's cache."""

from __future__ import annotations

import contextlib
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

import httpx2
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # loaded lazily

from ..errors import HubError
from .cache import Cache
from .download import download
from .explain import explain, explained
from .files import Fetching, HubFile, Steps, described, from_listing
from .landing import Landing
from .remote import Remote
from .space import check_space

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from .ids import HubId

_COMMIT = re.compile(r"[0-9a-f]{40}")
_LIBRARY = "edge-llama"


@dataclass(frozen=True)
class HubRepo:
    """A model at one commit.

    Attributes:
        id: what was asked for.
        revision: the commit's hash.
        files: all files by name; without the hub, those that the cache holds.
        folder: where the files are once they are fetched, in huggingface_hub's cache.
        unreachable: why the hub cannot be asked for more; None when it can.
    """

    id: HubId
    revision: str
    files: Mapping[str, HubFile]
    folder: Path
    unreachable: Exception | None = None

    @classmethod
    def open(cls, hub_id: HubId) -> HubRepo:
        """List the model's files, on the hub or, when that is out of reach, in the cache.

        The token comes from where huggingface_hub finds it: ``HF_TOKEN``, or a login.

        Raises:
            HubError: no such model or revision, no access; or the hub is out of reach and the
                cache does not know the model.
        """
        with explained(hub_id):
            try:
                info = HfApi(library_name=_LIBRARY).model_info(
                    hub_id.repo,
                    revision=hub_id.revision or constants.DEFAULT_REVISION,
                    files_metadata=True,
                    timeout=constants.HF_HUB_ETAG_TIMEOUT,
                )
            except (httpx2.TransportError, OfflineModeIsEnabled) as error:
                return cls._cached(hub_id, error)
            except HfHubHTTPError as error:
                if error.response.status_code < 500:
                    raise
                return cls._cached(hub_id, error)
            except (ValueError, KeyError, TypeError) as error:
                raise _no_hub(error) from error
        if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
            raise _no_hub(f"commit {info.sha!r}")
        files = from_listing(info.siblings or (), constants.ENDPOINT)
        repo = cls(hub_id, info.sha, files, _storage(hub_id) / "snapshots" / info.sha)
        repo._remember()
        return repo

    @classmethod
    def _cached(cls, hub_id: HubId, error: Exception) -> HubRepo:
        storage = _storage(hub_id)
        revision = hub_id.revision or constants.DEFAULT_REVISION
        with contextlib.suppress(OSError):
            if not _COMMIT.fullmatch(revision):
                revision = (storage / "refs" / revision).read_text(encoding="ascii").strip()
            folder = storage / "snapshots" / revision
            paths = [path for path in folder.rglob("*") if path.is_file()]
            # A file is a link to its content, which is named by its checksum.
            files = [
                described(path.relative_to(folder).as_posix(), path.stat().st_size, target.name)
                for path, target in ((path, path.resolve()) for path in paths)
            ]
            if files:
                return cls(hub_id, revision, {file.name: file for file in files}, folder, error)
        raise explain(hub_id, error) from error

    @property
    def label(self) -> str:
        """The model and its commit, ``org/name@hash``."""
        return f"{self.id.repo}@{self.revision}"

    def missing(self, names: Iterable[str]) -> int:
        """Return how many bytes of the files are still to be fetched."""
        files = [self.files[name] for name in names if not self._path(name).is_file()]
        return sum(file.size - self._cache.arrived(file) for file in files)

    def require_reachable(self) -> None:
        """Raise HubError, which says why, when the hub cannot be asked for more."""
        if self.unreachable is not None:
            raise explain(self.id, self.unreachable) from self.unreachable

    def remote(self) -> dict[str, Callable[[], BinaryIO]]:
        """Return how to open what is not in the cache, by name; files in sub-folders left out."""
        absent = [
            file
            for name, file in self.files.items()
            if "/" not in name and not self._path(name).is_file()
        ]
        return {file.name: self._remote(file).open for file in absent}

    def fetch(
        self, names: Collection[str], progress: Callable[[Fetching], object] | None = None
    ) -> None:
        """Bring files into the cache, and compare all of them with the hub's checksums.

        What an interrupted run left is gone on with. An exception that ``progress`` raises,
        KeyboardInterrupt too, ends the download and leaves what has arrived.

        Raises:
            HubError: the hub refuses or is out of reach, no space, or a file is damaged; then it
                is removed.
        """
        unknown = sorted(set(names) - self.files.keys())
        if unknown:
            raise HubError(
                f"{self._path(unknown[0])}: is not a file of {self.label}",
                hint="Take it out of the cache's folder.",
            )
        files = [self.files[name] for name in names]
        with explained(self.id):
            hint = "Free some space, or set HF_HOME to a folder on another disk."
            check_space(str(self.id), self.missing(names), self.folder.parent, hint=hint)
            steps = Steps(progress, sum(file.size for file in files))
            for file in files:
                path = self._path(file.name)
                if path.is_file():
                    self._cache.check(file, path, steps.of("check", file))
                else:
                    download(self._remote(file), self._cache, steps.of("fetch", file))
                    self._cache.link(file, path)

    def save(
        self,
        names: Iterable[str],
        root: Path,
        progress: Callable[[Fetching], object] | None = None,
    ) -> list[Path]:
        """Bring files to ``root/org/name`` and return where they are, verified.

        What is there and right stays; what huggingface_hub's cache holds is taken from there; the
        rest is fetched past the cache, and gone on with after an interruption.

        Raises:
            HubError: as :meth:`fetch`.
        """
        files = [self.files[name] for name in names]
        landing = Landing(root, self.id.repo)
        steps = Steps(progress, sum(file.size for file in files))
        with explained(self.id), landing.explained():
            landing.check_space(files)
            for file in files:
                path = self._path(file.name)
                if landing.holds(file, steps.of("check", file)):
                    continue
                if path.is_file():
                    self._cache.check(file, path, steps.of("check", file))
                    landing.adopt(file, path)
                else:
                    self.require_reachable()
                    download(self._remote(file), landing.cache, steps.of("fetch", file))
                    landing.place(file)
        return [landing.path(file) for file in files]

    @property
    def _cache(self) -> Cache:
        return Cache(self.folder.parent.parent)

    def _path(self, name: str) -> Path:
        return self.folder / name

    def _remote(self, file: HubFile) -> Remote:
        url = f"{constants.ENDPOINT}/{self.id.repo}/resolve/{self.revision}/{quote(file.name)}"
        return Remote(self.id, file, url, build_hf_headers(library_name=_LIBRARY))

    def _remember(self) -> None:
        """Note which commit the revision is, for when the hub is out of reach."""
        revision = self.id.revision or constants.DEFAULT_REVISION
        reference = self._cache.path / "refs" / revision
        if revision != self.revision:
            with contextlib.suppress(OSError):  # e.g. a cache that may only be read
                reference.parent.mkdir(parents=True, exist_ok=True)
                temporary = reference.with_name(f"{reference.name}.{secrets.token_hex(4)}.tmp")
                temporary.write_text(self.revision, encoding="ascii")
                temporary.replace(reference)


def _storage(hub_id: HubId) -> Path:
    """Return the model's folder in the cache."""
    cache = Path(constants.HF_HUB_CACHE).expanduser().resolve()
    return cache / repo_folder_name(repo_id=hub_id.repo, repo_type="model")


def _no_hub(detail: object) -> HubError:
    return HubError(
        f"{constants.ENDPOINT}: does not answer as a hub does ({detail})",
        hint="Is HF_ENDPOINT right? Does a proxy or a network's login page answer instead?",
    )
