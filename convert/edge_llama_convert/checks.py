"""What a verification consists of: its levels, its checks, and the report they make up."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from .errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt


class Level(str, Enum):
    """How much is compared."""

    OFF = "off"
    QUICK = "quick"
    FULL = "full"


class Runtime(Protocol):
    """llama.cpp's reading of the file that is being verified."""

    def tokenize(self, text: str) -> list[int]:
        """Return token ids, control tokens recognised, nothing added around the text."""
        ...

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes that the tokens stand for, control tokens as their texts."""
        ...

    def logits(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return ``[len(tokens), n_vocab]``."""
        ...


@dataclass(frozen=True)
class Check:
    """One comparison: what was compared, whether it holds, and the figures.

    Attributes:
        name: what was compared.
        passed: whether it holds.
        detail: the figures in words, or what is wrong.
        noteworthy: it holds, but not entirely.
        figures: for machines; values as JSON has them.
    """

    name: str
    passed: bool
    detail: str
    noteworthy: bool = False
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """Every comparison that was made."""

    level: Level
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether all comparisons hold."""
        return all(check.passed for check in self.checks)


def require(report: Report, path: Path, *, hint: str) -> None:
    """Raise VerificationError with ``hint`` unless every comparison holds."""
    failed = [f"{check.name}: {check.detail}" for check in report.checks if not check.passed]
    if failed:
        raise VerificationError(f"{path}: {'; '.join(failed)}", hint=hint)


def rounded(value: float) -> float | None:
    """Return a figure to four digits, as JSON has it: more would depend on the machine."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
