"""One finding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

#: "absent" is what can be added, but nothing needs; "wrong" is what has to be repaired.
State = Literal["ok", "absent", "wrong"]


@dataclass(frozen=True)
class Check:
    """What was looked at, how it is, and the commands that would change it.

    Attributes:
        name: a word or two.
        state: see :data:`State`.
        detail: one line.
        remedies: commands or sentences, each of which is enough.
        facts: the details as plain values.
    """

    name: str
    state: State
    detail: str
    remedies: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
