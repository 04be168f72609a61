"""Typed access to the metadata of a GGUF: each value has the type that llama.cpp asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from .fault import FETCH, damaged

if TYPE_CHECKING:
    from pathlib import Path

    from .parser import Header


class Keys:
    """The keys of one file; a missing or mistyped one is a ModelFileError that names it.

    Names without a dot before them (``.block_count``) are as in the file; with one they belong to
    the architecture (``llama.block_count``).
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self.architecture = ""
        self.architecture = self.text("general.architecture")

    def fail(self, problem: str, *, hint: str = FETCH) -> NoReturn:
        """Raise ModelFileError for this file."""
        raise damaged(self.path, problem, hint)

    def full(self, name: str) -> str:
        """Return the key's name in the file."""
        return self.architecture + name if name.startswith(".") else name

    def has(self, name: str) -> bool:
        """Whether the key is there."""
        return self.full(name) in self.header.metadata

    def kind(self, name: str) -> str | None:
        """Return the type of the key's value, if it is there."""
        return self.header.kinds.get(self.full(name))

    def count(self, name: str, default: int | None = None) -> int:
        """Return a u32; without ``default`` the key must be there."""
        return int(self._value(name, "u32", default))

    def real(self, name: str, default: float | None = None) -> float:
        """Return an f32; without ``default`` the key must be there."""
        return float(self._value(name, "f32", default))

    def text(self, name: str, default: str | None = None) -> str:
        """Return a string; without ``default`` the key must be there."""
        return str(self._value(name, "str", default))

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a bool; ``default`` if the key is absent."""
        return bool(self._value(name, "bool", default))

    def per_layer(self, name: str, n_layer: int, default: tuple[int, ...]) -> tuple[int, ...]:
        """Return one number per layer; the file has either one for all or an array of them."""
        kind = self.kind(name)
        if kind is None:
            return default
        if kind == "u32":
            return (self.count(name),) * n_layer
        values = self.header.metadata[self.full(name)]
        if kind not in {"arr[u32]", "arr[i32]", "arr[bool]"}:
            self.fail(f"key {self.full(name)} is {kind}, not u32 or arr[u32]")
        if not isinstance(values, list) or len(values) != n_layer or min(values) < 0:
            self.fail(f"key {self.full(name)} is no array of {n_layer} counts, one per layer")
        return tuple(int(value) for value in values)

    def _value(self, name: str, kind: str, default: object) -> Any:
        found = self.kind(name)
        if found is None:
            if default is None:
                self.fail(f"key {self.full(name)} is missing")
            return default
        if found != kind:
            self.fail(f"key {self.full(name)} is {found}, not {kind}")
        return self.header.metadata[self.full(name)]
