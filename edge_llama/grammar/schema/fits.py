"""What is raised where schemas exclude each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..bounds import MAX_SHORTEST, too_large
from .document import step

if TYPE_CHECKING:
    from .document import Member


class NothingFitsError(Exception):
    """No value fits; whether that is a fault depends on whether one is needed."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def bounds(members: list[Member], low: str, high: str) -> tuple[int, int | None]:
    """Return the highest of the low bounds and the lowest of the high ones.

    Raises:
        NothingFitsError: they cross.
    """
    lowest = max((int(m.schema.get(low, 0)) for m in members), default=0)
    highest = min((int(m.schema[high]) for m in members if high in m.schema), default=None)
    if lowest > MAX_SHORTEST:
        path = next(m.path for m in members if int(m.schema.get(low, 0)) == lowest)
        raise too_large(f"{step(path, low)}: {lowest}", str(MAX_SHORTEST), step(path, low))
    highest = None if highest is None else min(highest, 10 * MAX_SHORTEST)
    if highest is not None and lowest > highest:
        path = next(m.path for m in members if low in m.schema)
        raise NothingFitsError(step(path, low), f"{low} {lowest} is more than {high} {highest}")
    return lowest, highest
