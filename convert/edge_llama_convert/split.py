"""One model in several GGUF files, divided and named as by llama.cpp's llama-gguf-split.

Source of the rules: split_strategy in llama.cpp's tools/gguf-split/gguf-split.cpp. The first file
has all metadata; each has its number, the number of files, and how many tensors all hold together.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gguf import GGUFValueType

from .errors import ConvertError
from .fileio import SharedFile
from .header import PackedKeys, pack_number
from .writer import Layout, aligned, place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from .quantize import Target

_UNITS = {"M": 10**6, "G": 10**9}
_MOST = 65_535  # the number of files is an uint16


@dataclass(frozen=True)
class SplitLimit:
    """The most that one file may hold; exactly one of the two is set.

    Attributes:
        nbytes: bytes of tensor data; the metadata of the first file comes on top.
        tensors: number of tensors.
    """

    nbytes: int | None = None
    tensors: int | None = None

    @classmethod
    def parse(cls, size: str | None, tensors: int | None) -> SplitLimit | None:
        """Make a limit from ``--split-max-size`` (e.g. "500M" or "4G", powers of ten) and its kin.

        None if neither is given; ConvertError when both are, or one makes no sense.
        """
        if size is None and tensors is None:
            return None
        if size is not None and tensors is not None:
            raise ConvertError(
                "--split-max-size and --split-max-tensors exclude each other", hint="Give one."
            )
        if size is None:
            if tensors is None or tensors < 1:
                raise ConvertError(f"--split-max-tensors {tensors}", hint="Give 1 or more.")
            return cls(tensors=tensors)
        match = re.fullmatch(r"([0-9]{1,9})([MG])", size, re.IGNORECASE)
        if match is None or not int(match[1]):
            raise ConvertError(
                f"--split-max-size {size!r} is no size", hint="Write it as 500M or 4G."
            )
        return cls(nbytes=int(match[1]) * _UNITS[match[2].upper()])

    def divide(self, targets: Sequence[Target]) -> list[list[Target]]:
        """Divide tensors, in their order, between files; ConvertError when that cannot be."""
        groups: list[list[Target]] = [[]]
        filled = 0
        for index, target in enumerate(targets):
            nbytes = aligned(target.nbytes)
            if self._is_full(index, filled + nbytes):
                groups.append([])
                filled = 0
            groups[-1].append(target)
            filled += nbytes
        if not groups[0]:  # llama-gguf-split minds this of the first file alone
            raise ConvertError(
                f"the tensor {targets[0].tensor.name} alone takes {targets[0].nbytes:,} bytes, "
                "more than the first file may hold",
                hint="Choose a larger --split-max-size.",
            )
        if len(groups) > _MOST:
            raise ConvertError(
                f"{len(groups):,} files; at most {_MOST:,} are possible",
                hint="Choose a larger --split-max-size or --split-max-tensors.",
            )
        return groups

    def _is_full(self, index: int, nbytes: int) -> bool:
        if self.nbytes is not None:
            return nbytes > self.nbytes
        return self.tensors is not None and index > 0 and index % self.tensors == 0


def split_layout(layout: Layout, limit: SplitLimit) -> tuple[Layout, ...]:
    """Divide a layout into one for each file.

    Raises:
        ConvertError: the limit is too small.
    """
    keys = PackedKeys.of(layout.header, layout.keys_end)
    groups = limit.divide(layout.targets)
    parts = []
    for number, group in enumerate(groups):
        numbers = (
            pack_number("split.no", number, GGUFValueType.UINT16),
            pack_number("split.tensors.count", len(layout.targets), GGUFValueType.INT32),
            pack_number("split.count", len(groups), GGUFValueType.UINT16),
        )
        own = keys if number == 0 else PackedKeys(0, b"")
        part = place(
            own.plus(numbers),
            [target.tensor for target in group],
            [target.kind for target in group],
        )
        targets = tuple(replace(target, part=number) for target in part.targets)
        parts.append(replace(part, targets=targets))
    return tuple(parts)


def part_path(path: Path, number: int, count: int) -> Path:
    """Return the name of a file, counted from 0, of the model that would be ``path`` if whole."""
    stem = path.name.removesuffix(".gguf")
    return path.with_name(f"{stem}-{number + 1:05}-of-{count:05}.gguf")


#: The end of such a name's stem: number, from 1, and count.
PART = re.compile(r"-(\d{5})-of-(\d{5})$")


@contextlib.contextmanager
def open_parts(first: Path, targets: Iterable[Target]) -> Iterator[list[SharedFile]]:
    """Open the files that hold the targets, of which the first is ``first``, to read them."""
    count = 1 + max((target.part for target in targets), default=0)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(SharedFile(path)) for path in part_paths(first, count)]


def part_paths(first: Path, count: int) -> list[Path]:
    """Return the names of all files of the model whose first is ``first``."""
    whole = first.with_name(PART.sub("", first.stem))
    return [part_path(whole, number, count) for number in range(count)] if count > 1 else [first]
