"""Objects as rules: named keys in order, each there or not, then free ones, counted if need be."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model import Objects
    from .writer import Writer


class ObjectRules:
    """A rule for each named key and for how many keys were before it, as far as that matters."""

    def __init__(self, writer: Writer, node: Objects) -> None:
        self._writer = writer
        self._named = [one for one in node.named if writer.fits(one.value)]
        self._free = [one for one in node.free if writer.fits(one.value)]
        self._low = node.low
        self._high = node.high
        needed = sum(one.required for one in self._named)
        counted = node.high is not None or node.low > needed
        self._cap = max(node.low, node.high or 0, 1) if counted else 1
        self._counted = counted
        self._rules: dict[tuple[int, int], str] = {}
        self._more = self._free_entries()

    def body(self) -> str:
        """Return the rule's body."""
        inside = self._writer.inner(self._from(0, 0))
        return self._writer.bracketed("{", inside, "}")

    def _from(self, place: int, count: int) -> str:
        """Return what may come from the key at ``place`` on, after ``count`` keys."""
        parts: list[str] = []
        while place < len(self._named):
            one = self._named[place]
            entry = self._entry(place, count)
            after = min(count + 1, self._cap)
            if one.required and not self._full(count):
                parts.append(entry)
                place, count = place + 1, after
                continue
            if one.required:
                return ""
            if after == count and not self._counted:
                parts.append(f"{self._writer.inner(entry)}?")
                place += 1
                continue
            options = [self._rule(place + 1, count)]
            if not self._full(count):
                options.append(self._joined(entry, self._rule(place + 1, after)))
            options = [option for option in options if option]
            if not options:
                return ""
            return " ".join([*parts, self._writer.inner(" | ".join(options))])
        tail = self._tail(count)
        return " ".join([*parts, tail]) if tail else ""

    def _rule(self, place: int, count: int) -> str:
        """Return the rule for the rest; "" where no object can come of it."""
        state = (place, count)
        if state not in self._rules:
            body = self._from(place, count)
            self._rules[state] = self._writer.inner(body) if body else ""
        return self._rules[state]

    @staticmethod
    def _joined(entry: str, rest: str) -> str:
        return f"{entry} {rest}" if rest else ""

    def _full(self, count: int) -> bool:
        return self._high is not None and count >= self._high

    def _entry(self, place: int, count: int) -> str:
        one, writer = self._named[place], self._writer
        comma = f"{writer.comma} " if count else ""
        return f"{comma}{writer.key(one.name)} {writer.colon} {writer.rule(one.value)}"

    def _free_entries(self) -> str:
        writer = self._writer
        entries = [
            f"{writer.free_key(one.keys)} {writer.colon} {writer.rule(one.value)}"
            for one in self._free
        ]
        return writer.inner(" | ".join(entries)) if entries else ""

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
