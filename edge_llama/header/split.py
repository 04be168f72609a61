"""Models in several files, ``NAME-00001-of-00003.gguf`` and so on: names, and joining the headers.

The first part has all metadata; each part has its number (``split.no``, from 0), how many there are
(``split.count``) and how many tensors all have together (``split.tensors.count``).
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, NamedTuple

from .fault import damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .parser import Header, TensorInfo

_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


class Split(NamedTuple):
    """What a part says about itself; a model in one file is the only part, 0 of 1."""

    number: int
    n_parts: int
    n_tensors: int


def model_name(file: str) -> str:
    """Return the name of the model in a file: without the ending, and the part's number."""
    part = _NAME.fullmatch(file)
    return part["stem"] if part else file.removesuffix(".gguf")


def part_number(file: str) -> tuple[int, int]:
    """Return which part of how many a file's name says it is, from 1; (1, 1) if it says nothing."""
    part = _NAME.fullmatch(file)
    return (int(part["number"]), int(part["count"])) if part else (1, 1)


def _part_name(stem: str, number: int, n_parts: int) -> str:
    """Return the file name of part ``number``, from 0; llama.cpp looks for these."""
    return f"{stem}-{number + 1:05}-of-{n_parts:05}.gguf"


def read_split(path: Path, header: Header) -> Split:
    """Return which part of how many a file is.

    Raises:
        ModelFileError: the keys are of another type than llama.cpp asserts, or make no sense.
    """
    if "split.count" not in header.metadata:
        return Split(0, 1, len(header.tensors))
    values = []
    for name, kind in (("no", "u16"), ("count", "u16"), ("tensors.count", "i32")):
        found = header.kinds.get(f"split.{name}")
        if found != kind:
            raise damaged(path, f"key split.{name} is {found}, not {kind}")
        values.append(int(header.metadata[f"split.{name}"]))
    split = Split(*values)
    if split.number >= max(split.n_parts, 1):
        raise damaged(path, f"it says it is part {split.number + 1} of {split.n_parts}")
    return split


def part_paths(path: Path, split: Split) -> list[Path]:
    """Return the files of the model whose first part is at ``path``; they need not exist.

    Raises:
        ModelFileError: it is not the first part, or its name is not that of one.
    """
    if split.n_parts <= 1:
        return [path]
    name = _NAME.fullmatch(path.name)
    if split.number:
        first = _part_name(name["stem"] if name else "NAME", 0, split.n_parts)
        raise damaged(
            path,
            f"this is part {split.number + 1} of {split.n_parts} of a model",
            hint=f"Open the first part instead: {path.parent / first}",
        )
    if not name or (int(name["number"]), int(name["count"])) != (1, split.n_parts):
        raise damaged(
            path,
            f"it is the first of {split.n_parts} parts, but its name does not say so",
            hint="Give the parts their names back: "
            f"{_part_name('NAME', 0, split.n_parts)} and so on.",
        )
    return [
        path.with_name(_part_name(name["stem"], number, split.n_parts))
        for number in range(split.n_parts)
    ]


def join_parts(
    paths: Sequence[Path], first: Header, split: Split, parse: Callable[[Path], Header]
) -> tuple[tuple[TensorInfo, ...], list[int]]:
    """Return the tensors of all parts, and the parts' sizes in bytes.

    ``parse`` reads the header of a part.

    Raises:
        ModelFileError: a part is missing, in another's place, or of another model.
    """
    tensors, sizes = [*first.tensors], [first.nbytes]
    for number, path in enumerate(paths[1:], 1):
        if not path.exists():
            raise damaged(
                path,
                f"part {number + 1} of {split.n_parts} is missing",
                hint="All parts must be in one folder; download or copy the missing one.",
            )
        header = parse(path)
        found = read_split(path, header)
        if found != (number, split.n_parts, split.n_tensors):
            raise damaged(
                path,
                f"it holds part {found.number + 1} of {found.n_parts} of a model of "
                f"{found.n_tensors:,} tensors; part {number + 1} of {split.n_parts} of one of "
                f"{split.n_tensors:,} was expected",
                hint="The files were mixed up or renamed; download or copy this part again.",
            )
        tensors += [dataclasses.replace(tensor, part=number) for tensor in header.tensors]
        sizes.append(header.nbytes)
    if split.n_parts > 1:
        _check_whole(paths[0], tensors, split)
    return tuple(tensors), sizes


def _check_whole(path: Path, tensors: Sequence[TensorInfo], split: Split) -> None:
    names = {tensor.name for tensor in tensors}
    if len(names) != len(tensors) or len(tensors) != split.n_tensors:
        raise damaged(
            path,
            f"its {split.n_parts} parts hold {len(tensors):,} tensors of {len(names):,} "
            f"names; {split.n_tensors:,} were expected",
            hint="The parts are not of one model; download or copy them again.",
        )
