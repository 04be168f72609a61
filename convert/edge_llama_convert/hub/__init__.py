"""Models on a Hugging Face hub: by id, into and out of huggingface_hub's own cache.

huggingface_hub, the extra ``[hub]``, is imported when a hub is asked, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import HubError
from .files import Fetching, HubFile
from .ids import HubId

if TYPE_CHECKING:
    from .repo import HubRepo

__all__ = ["Fetching", "HubFile", "HubId", "open_repo"]


def open_repo(hub_id: HubId) -> HubRepo:
    """Ask the hub for a model's files; see :class:`edge_llama_convert.hub.repo.HubRepo`.

    Raises:
        HubError: huggingface_hub is not installed, the hub refuses, or cannot be reached and the
            cache does not hold the model.
    """
    try:
        from .repo import HubRepo
    except ImportError as error:
        raise HubError(
            f"{hub_id}: no such folder here; to look on the hub, huggingface_hub is needed",
            hint="Install it with: pip install 'edge-llama[hub]'",
        ) from error
    return HubRepo.open(hub_id)
