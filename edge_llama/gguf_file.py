"""A GGUF's header -> frozen :class:`GGUFInfo`, once the pre-flight has found no fault.

Plain file access; no native code, no weights.
"""

from __future__ import annotations

import math
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import preflight
from .header.fault import damaged
from .header.hyperparameters import HyperParameters, read_hyperparameters
from .header.keys import Keys
from .header.parser import Header, HeaderParser, TensorInfo
from .header.split import join_parts, part_paths, read_split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NAME_A_FILE = "Give the path of a .gguf file."


@dataclass(frozen=True)
class GGUFInfo:
    """What a GGUF's header says; for a model in several files, what all of them say.

    Attributes:
        path: the file, or the first part.
        version: 2 or 3.
        metadata: all keys; arrays of more than 512 items are a ``LongArray`` (their length).
        tensors: every tensor's description.
        nbytes: size of the file, or of all parts together, in bytes.
        hparams: the shape of the model.
        parts: the files, in order; one if the model is not split.
    """

    path: Path
    version: int
    metadata: Mapping[str, Any]
    tensors: tuple[TensorInfo, ...]
    nbytes: int
    hparams: HyperParameters
    parts: tuple[Path, ...]

    @property
    def architecture(self) -> str:
        """``general.architecture``, e.g. "llama"."""
        return str(self.metadata["general.architecture"])

    @property
    def name(self) -> str:
        """The model's name, or the file's."""
        return str(self.metadata.get("general.name") or self.path.stem)

    @cached_property
    def n_parameters(self) -> int:
        """Number of weights."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def context_length(self) -> int:
        """Context the model was trained on, in tokens."""
        return self.hparams.n_ctx_train

    @property
    def n_layers(self) -> int:
        """Number of transformer layers."""
        return self.hparams.n_layer

    @property
    def n_vocab(self) -> int:
        """Number of tokens."""
        return self.hparams.n_vocab

    @property
    def chat_template(self) -> str | None:
        """The Jinja template the model was trained with, if the file has one."""
        template = self.metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    @cached_property
    def bytes_by_type(self) -> dict[str, int]:
        """Bytes of tensor data by type, largest first."""
        totals = _totals((tensor.type, tensor.nbytes) for tensor in self.tensors)
        return dict(sorted(totals.items(), key=lambda item: -item[1]))

    @cached_property
    def bytes_by_part(self) -> tuple[int, ...]:
        """Bytes of tensor data in each of :attr:`parts`."""
        totals = _totals((tensor.part, tensor.nbytes) for tensor in self.tensors)
        return tuple(totals.get(part, 0) for part in range(len(self.parts)))


def _totals(items: Iterable[tuple[Any, int]]) -> dict[Any, int]:
    totals: dict[Any, int] = {}
    for key, count in items:
        totals[key] = totals.get(key, 0) + count
    return totals


def inspect(path: str | Path) -> GGUFInfo:
    """Read the header of the GGUF at ``path`` and check that llama.cpp can be given the file.

    Of a model in several files ``path`` is the first part; the others are found beside it.
    Takes time with the vocabulary, not with the weights (about 30 ms for 128k tokens), and loads
    no native code.

    Raises:
        ModelFileError: not a file, not a GGUF, truncated, with parts missing, or with anything in
            it that makes no sense.
    """
    path = Path(path)
    header = _parse(path)
    split = read_split(path, header)
    parts = part_paths(path, split)
    tensors, sizes = join_parts(parts, header, split, _parse)
    keys = Keys(path, header)
    hparams = read_hyperparameters(keys)
    preflight.check(keys, hparams, tensors)
    return GGUFInfo(
        path=path,
        version=header.version,
        metadata=header.metadata,
        tensors=tensors,
        nbytes=sum(sizes),
        hparams=hparams,
        parts=tuple(parts),
    )


def _parse(path: Path) -> Header:
    """Read one file's header; ModelFileError also when the system refuses."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a pipe would wait for its other end
            raise damaged(
                path, "is a folder" if stat.S_ISDIR(mode) else "is no regular file", _NAME_A_FILE
            )
        with path.open("rb", buffering=0) as file:
            return HeaderParser(file, path).parse()
    except FileNotFoundError:
        raise damaged(path, "no such file", _NAME_A_FILE) from None
    except OSError as error:
        problem = error.strerror or str(error)
        raise damaged(path, problem, "Check the file's permissions.") from error
    except ValueError as error:  # a path with a zero byte
        raise damaged(path, str(error), _NAME_A_FILE) from None
