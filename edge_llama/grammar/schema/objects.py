"""Objects as rules: named keys in order, each there or not, then free ones, counted if need be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..bounds import too_large

if TYPE_CHECKING:
    from .model import Objects
    from .writer import Writer

#: Pairs of a key's place and a count before it.
_MAX_STATES = 5000


class ObjectRules:
    """A rule for each key that may be left out, and for how many came before, if that matters."""

    def __init__(self, writer: Writer, node: Objects) -> None:
        self._writer = writer
        self._named = [one for one in node.named if writer.fits(one.value)]
        self._free = [one for one in node.free if writer.fits(one.value)]
        self._low, self._high = node.low, node.high
        needed = sum(one.required for one in self._named)
        self._counted = node.high is not None or node.low > needed
        self._cap = max(node.low, node.high or 0, 1) if self._counted else 1
        if len(self._named) * min(self._cap, len(self._named)) > _MAX_STATES:
            raise too_large(f"{node.path}: the object", f"{_MAX_STATES} keys times counts")
        #: Rules by place and count; "" where no object can come of it.
        self._rules: dict[tuple[int, int], str] = {}
        entries = [
            f"{writer.free_key(one.keys)} {writer.colon} {writer.rule(one.value)}"
            for one in self._free
        ]
        self._more = writer.inner(" | ".join(entries)) if entries else ""

    def body(self) -> str:
        """Return the rule's body."""
        for state in sorted(self._states(), reverse=True):  # those further on come first
            body = self._from(*state)
            self._rules[state] = self._writer.inner(body) if body else ""
        return self._writer.bracketed("{", self._rules[0, 0], "}")

    def _states(self) -> set[tuple[int, int]]:
        """Return the states that begin a rule: the first, and those after a key left open."""
        found: set[tuple[int, int]] = set()
        todo = [(0, 0)]
        while todo:
            state = todo.pop()
            if state not in found:
                found.add(state)
                place, count = self._run(*state)
                if place < len(self._named) and not self._named[place].required:
                    todo.append((place + 1, count))
                    if not self._full(count):
                        todo.append((place + 1, min(count + 1, self._cap)))
        return found

    def _run(self, place: int, count: int) -> tuple[int, int]:
        """Return where the required keys from here on end."""
        while place < len(self._named) and self._named[place].required and not self._full(count):
            place, count = place + 1, min(count + 1, self._cap)
        return place, count

    def _from(self, place: int, count: int) -> str:
        """Return what may come from the key at ``place`` on, after ``count`` keys."""
        end, total = self._run(place, count)
        parts = [self._entry(at, min(count + at - place, self._cap)) for at in range(place, end)]
        if end == len(self._named):
            rest = self._tail(total)
        elif self._named[end].required:
            return ""  # the object is full before it
        else:
            options = [self._rules[end + 1, total]]
            after = min(total + 1, self._cap)
            if not self._full(total) and self._rules[end + 1, after]:
                options.append(f"{self._entry(end, total)} {self._rules[end + 1, after]}")
            rest = " | ".join(option for option in options if option)
            if parts and rest:
                rest = self._writer.inner(rest)
        return " ".join([*parts, rest]) if rest else ""

    def _full(self, count: int) -> bool:
        return self._high is not None and count >= self._high

    def _entry(self, place: int, count: int) -> str:
        one, writer = self._named[place], self._writer
        comma = f"{writer.comma} " if count else ""
        return f"{comma}{writer.key(one.name)} {writer.colon} {writer.rule(one.value)}"

    def _tail(self, count: int) -> str:
        """Return the free keys after ``count`` named ones; "" if they cannot be enough."""
        low = max(0, self._low - count) if self._counted else 0
        high = self._writer.options.max_extra_keys if self._more else 0
        if self._high is not None:
            high = min(high, self._high - count)
        if high < low or high < 0:
            return ""
        if high == 0:
            return '""'
        if count == 0:
            return self._writer.many(self._more, low, high)
        more = self._writer.inner(f"{self._writer.comma} {self._more}")
        return self._writer.counted(more, low, high)
