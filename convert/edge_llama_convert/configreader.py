"""Read a config.json key by key, and remember every fault, so that one error can name them all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class ConfigReader:
    """Reads values by key; null counts as absent.

    A value that cannot be used adds a line to ``faults``, and something usable takes its place.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.faults: list[str] = []

    def integer(self, key: str, default: int | None = None) -> int:
        """Return a positive integer; a fault when it is absent and there is no default."""
        value = self.config.get(key)
        if value is None:
            value = default
        if isinstance(value, float) and value.is_integer():  # some tools write 4096.0
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            shown = repr(value)[:40]
            self.faults.append(
                f"{key} is missing" if value is None else f"{key} = {shown}, not a positive int"
            )
            return 1
        return value

    def number(self, key: str, default: float, source: Mapping[str, Any] | None = None) -> float:
        """Return a positive finite number, of ``source`` if it is given."""
        value = (self.config if source is None else source).get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            self.faults.append(f"{key} = {value!r}, not a positive number")
            return default
        if not math.isfinite(value):
            self.faults.append(f"{key} = {value!r}, not finite")
            return default
        return float(value)

    def flag(self, key: str) -> bool:
        """Return true or false, false when it is absent."""
        value = self.config.get(key)
        if value is not None and not isinstance(value, bool):
            self.faults.append(f"{key} = {value!r}, not true or false")
        return bool(value)
