"""One line, with a remedy, for everything that goes wrong between us, a hub and its cache."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from httpx2 import HTTPError
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..errors import HubError
from ..fileio import FULL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .ids import HubId

_RESUME = "What has arrived is kept; run the command again to go on."


@contextlib.contextmanager
def explained(hub_id: HubId) -> Iterator[None]:
    """Turn the errors of huggingface_hub, HTTP and the cache's disk into HubError."""
    try:
        yield
    except (HTTPError, OSError, HFValidationError) as error:
        raise explain(hub_id, error) from error


def explain(hub_id: HubId, error: Exception) -> HubError:
    """Return the error in our words; neither addresses with signatures nor tokens are in them."""
    if isinstance(error, HfHubHTTPError):
        return _refused(hub_id, error)
    if isinstance(error, OfflineModeIsEnabled):
        return HubError(
            f"{hub_id}: HF_HUB_OFFLINE is set, and the cache {_cache()} does not hold all of it",
            hint="Unset HF_HUB_OFFLINE, or fetch the model while online.",
        )
    if isinstance(error, HTTPError):
        return HubError(
            f"{hub_id}: the connection to {_host()} failed ({_detail(error)})",
            hint=f"Check the connection, and HF_ENDPOINT if it is set. {_RESUME}",
        )
    if isinstance(error, HFValidationError):
        return HubError(f"{hub_id}: {error}", hint="Write it as org/name[@revision].")
    assert isinstance(error, OSError)  # noqa: S101 - see explained()
    if error.errno in FULL:
        return HubError(
            f"{hub_id}: no space left in the cache {_cache()} (a quota or limit may be lower than "
            "the disk)",
            hint=f"Free some space, or set HF_HOME to a folder on another disk. {_RESUME}",
        )
    return HubError(
        f"{error.filename or _cache()}: {_detail(error)}",
        hint="Check the cache and its permissions, or set HF_HOME to another folder.",
    )


def _refused(hub_id: HubId, error: HfHubHTTPError) -> HubError:
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return HubError(
            f"{hub_id}: gated: {_host()} gives it only to those who accepted its terms",
            hint=f"Accept them at {constants.ENDPOINT}/{hub_id.repo}, and set HF_TOKEN to a token "
            f"of that account ({constants.ENDPOINT}/settings/tokens).",
        )
    if isinstance(error, RepositoryNotFoundError):
        return HubError(
            f"{hub_id}: no such folder here, and no such model on {_host()}, or a private one",
            hint="Check the name; for a private model set HF_TOKEN to a token that may read it.",
        )
    if isinstance(error, RevisionNotFoundError):
        return HubError(
            f"{hub_id}: {_host()} has the model, but no revision {hub_id.revision}",
            hint="Name one of its branches, tags or commits: org/name@REVISION.",
        )
    if status in {401, 403}:
        return HubError(
            f"{hub_id}: {_host()} refuses the access ({status})",
            hint="Set HF_TOKEN to a valid token that may read the model, or unset it if it is "
            "public.",
        )
    if status == 429:
        return HubError(
            f"{hub_id}: too many requests for {_host()}",
            hint="Wait some minutes; with HF_TOKEN set more are allowed.",
        )
    return HubError(
        f"{hub_id}: {_host()} answered {status} {error.response.reason_phrase}".rstrip(),
        hint=f"Try again later. {_RESUME}",
    )


def _detail(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()) or type(error).__name__


def _host() -> str:
    return urlsplit(constants.ENDPOINT).netloc


def _cache() -> str:
    return constants.HF_HUB_CACHE
