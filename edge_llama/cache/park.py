"""States of sequences outside the cache: a conversation that must make room is not lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from .history import History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..decoder import State
    from .history import Gap


class Parked(History):
    """What a saved state stands for."""

    def __init__(self, tokens: list[int], gap: Gap, nbytes: int) -> None:
        super().__init__(tokens, gap)
        self.nbytes = nbytes


_Kept = TypeVar("_Kept", bound=Parked)


def best_rated(states: Iterable[_Kept], rate: Callable[[History], int]) -> _Kept | None:
    """Return the state that ``rate`` gives most, the first of equals; None if all get 0."""
    best = max(states, key=rate, default=None)
    return best if best is not None and rate(best) > 0 else None


class StateStore(Protocol):
    """Where states are kept; a store may forget any of them at any time.

    ``persists`` tells whether they outlive the process, so that they are worth saving at its end.
    """

    persists: bool

    def save(self, history: History, nbytes: int, read: Callable[[], State]) -> None:
        """Keep the state of ``history``, if there is room; only then it is read."""
        ...

    def checkpoint(self, history: History, read: Callable[[], State]) -> None:
        """Keep a copy that outlives the process, if any does."""
        ...

    def find(self, rate: Callable[[History], int]) -> Parked | None:
        """Return the state that ``rate`` gives most, if any gets more than 0."""
        ...

    def restore(self, parked: Parked) -> State | None:
        """Hand a state out; None if it is lost.

        The caller saves it again if it is still wanted: a store may part with what it hands out.
        """
        ...

    def close(self) -> None:
        """Come to an end."""
        ...


class MemoryStore:
    """At most ``max_bytes`` of host memory; the oldest goes first, through ``leaving``."""

    persists = False

    def __init__(
        self, max_bytes: int, leaving: Callable[[History, State], object] | None = None
    ) -> None:
        self._max_bytes, self._leaving = max_bytes, leaving
        self._states: dict[Parked, State] = {}  # oldest first

    @property
    def nbytes(self) -> int:
        """Bytes of all states."""
        return sum(parked.nbytes for parked in self._states)

    def save(self, history: History, nbytes: int, read: Callable[[], State]) -> None:
        """Keep the state; the oldest make room."""
        if nbytes > self._max_bytes:
            if self._leaving is not None:
                self._leaving(history, read())
            return
        while self.nbytes + nbytes > self._max_bytes:
            self._let_go()
        self._states[Parked(list(history.tokens), history.gap, nbytes)] = read()

    def checkpoint(self, history: History, read: Callable[[], State]) -> None:
        """Do nothing: no state here outlives the process."""

    def _let_go(self) -> None:
        """Part with the oldest state."""
        oldest = next(iter(self._states))
        state = self._states.pop(oldest)
        if self._leaving is not None:
            self._leaving(oldest, state)

    def find(self, rate: Callable[[History], int]) -> Parked | None:
        """Return the best state; of equals, the oldest."""
        return best_rated(self._states, rate)

    def restore(self, parked: Parked) -> State | None:
        """Hand a state out; None if it was evicted."""
        return self._states.pop(parked, None)

    def close(self) -> None:
        """Part with all states."""
        while self._states:
            self._let_go()
