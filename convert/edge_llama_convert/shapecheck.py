"""Which tensors a model must have and which it has: every difference, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from .naming import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


def shape_faults(
    expected: Shapes, found: Shapes, origin: str, *, optional: Collection[str] = ()
) -> list[str]:
    """Return what is missing, unexpected or of another shape than ``origin`` calls for.

    Of ``expected``, the names in ``optional`` may be missing.
    """
    faults = []
    for label, names in (
        ("missing", expected.keys() - found.keys() - set(optional)),
        ("unexpected", found.keys() - expected.keys()),
    ):
        if names:
            faults.append(f"{len(names)} tensors {label}: {listed(names)}")
    wrong: dict[tuple[tuple[int, ...], tuple[int, ...]], list[str]] = {}
    for name in sorted(expected.keys() & found.keys()):
        if found[name] != expected[name]:
            wrong.setdefault((found[name], expected[name]), []).append(name)
    faults += [
        f"{listed(names)} {'have' if len(names) > 1 else 'has'} shape {list(shape)}, "
        f"{origin} calls for {list(wanted)}"
        for (shape, wanted), names in wrong.items()
    ]
    return faults
