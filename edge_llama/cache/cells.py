"""A ledger of the cache's cells: llama.cpp does not tell how many are free."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Cells:
    """``count`` cells, each held by any number of sequences; one that nobody holds is free."""

    def __init__(self, count: int) -> None:
        self._holders = [0] * count
        self._unused = list(range(count))

    @property
    def free(self) -> int:
        """Number of cells that nobody holds."""
        return len(self._unused)

    def take(self, count: int) -> list[int]:
        """Hold ``count`` free cells; IndexError when there are fewer."""
        if count > len(self._unused):
            raise IndexError(f"{count} cells wanted, {len(self._unused)} free")
        cells = [self._unused.pop() for _ in range(count)]
        for cell in cells:
            self._holders[cell] = 1
        return cells

    def share(self, cells: Iterable[int]) -> None:
        """Hold cells that someone else holds already."""
        for cell in cells:
            self._holders[cell] += 1

    def release(self, cells: Iterable[int]) -> None:
        """Stop holding cells."""
        for cell in cells:
            self._holders[cell] -= 1
            if not self._holders[cell]:
                self._unused.append(cell)
