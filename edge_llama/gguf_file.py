"""A GGUF's header -> frozen :class:`GGUFInfo`, and the pre-flight that refuses bad files.

Plain file access; no native code, no weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ModelFileError
from .gguf_header import FETCH, HeaderParser, LongArray, TensorInfo

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class GGUFInfo:
    """What a GGUF's header says.

    Attributes:
        path: the file.
        version: 2 or 3.
        metadata: all keys; arrays of more than 256 items are a :class:`LongArray`.
        tensors: every tensor's description.
        nbytes: size of the file in bytes.
    """

    path: Path
    version: int
    metadata: Mapping[str, Any]
    tensors: tuple[TensorInfo, ...]
    nbytes: int

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
        return int(self.hyper_parameter("context_length"))

    @property
    def n_layers(self) -> int:
        """Number of transformer layers."""
        return int(self.hyper_parameter("block_count"))

    @property
    def n_vocab(self) -> int:
        """Number of tokens."""
        tokens = self.metadata["tokenizer.ggml.tokens"]
        return tokens.count if isinstance(tokens, LongArray) else len(tokens)

    @property
    def chat_template(self) -> str | None:
        """The Jinja template the model was trained with, if the file has one."""
        template = self.metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    @cached_property
    def bytes_by_type(self) -> dict[str, int]:
        """Bytes of tensor data by type, largest first."""
        totals: dict[str, int] = {}
        for tensor in self.tensors:
            totals[tensor.type] = totals.get(tensor.type, 0) + tensor.nbytes
        return dict(sorted(totals.items(), key=lambda item: -item[1]))

    def hyper_parameter(self, key: str, default: Any = None) -> Any:
        """Return ``<architecture>.<key>``; ModelFileError when it is absent without a default."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if value is None:
            raise ModelFileError(
                f"{self.path}: key {self.architecture}.{key} is missing", hint=FETCH
            )
        return value


def inspect(path: str | Path) -> GGUFInfo:
    """Read the header of the GGUF at ``path`` and check that the file is whole.

    Takes time with the vocabulary, not with the weights (about 0.1 s for 50k tokens), and loads
    no native code.

    Raises:
        ModelFileError: not a file, not a GGUF, truncated, or with fields that make no sense.
    """
    path = Path(path)
    try:
        if not path.is_file():
            kind = "is a folder" if path.is_dir() else "no such file"
            raise ModelFileError(f"{path}: {kind}", hint="Give the path of a .gguf file.")
        with path.open("rb") as file:
            header = HeaderParser(file, path).parse()
    except OSError as error:
        raise ModelFileError(
            f"{path}: {error.strerror or error}", hint="Check the file's permissions."
        ) from error
    info = GGUFInfo(path, header.version, header.metadata, header.tensors, header.nbytes)
    _check_required(info)
    return info


#: Keys every text model needs; llama.cpp's own message about them is far less clear.
_REQUIRED = ("block_count", "context_length", "embedding_length", "attention.head_count")


def _check_required(info: GGUFInfo) -> None:
    if not isinstance(info.metadata.get("general.architecture"), str):
        raise ModelFileError(f"{info.path}: key general.architecture is missing", hint=FETCH)
    for key in _REQUIRED:
        info.hyper_parameter(key)
    if "tokenizer.ggml.tokens" not in info.metadata:
        raise ModelFileError(
            f"{info.path}: it holds no tokenizer (key tokenizer.ggml.tokens)",
            hint="This may be a projector or an adapter rather than a model; name the model file.",
        )
    if not info.tensors:
        raise ModelFileError(
            f"{info.path}: it holds no weights",
            hint="This is a vocabulary-only file or the first part of a split one.",
        )
