"""Whether what is to be fetched fits on the disk."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from ..errors import HubError

if TYPE_CHECKING:
    from pathlib import Path


def check_space(name: str, missing: int, folder: Path, *, hint: str) -> None:
    """Raise HubError unless ``missing`` bytes of ``name`` fit where ``folder`` is, or will be.

    ``hint`` says where else they could go.
    """
    absolute = folder.absolute()
    existing = next(each for each in (absolute, *absolute.parents) if each.is_dir())
    free = shutil.disk_usage(existing).free
    if missing > free:
        raise HubError(
            f"{name}: {missing / 1e6:,.0f} MB to fetch, but {free / 1e6:,.0f} MB free in "
            f"{existing}",
            hint=hint,
        )
