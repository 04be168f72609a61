"""Types that the user chooses instead of the recipe's, with llama-quantize's meaning of each.

``--output-type`` and ``--embedding-type`` name the type of one matrix. ``--tensor-type
'regex=type'`` is tried on every tensor's name, in order, first match wins; it speaks only where
the recipe would quantise, and a row that does not fit the type falls back as always.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import ConvertError
from .ggml import GGMLType

if TYPE_CHECKING:
    from collections.abc import Iterable

_KNOWN = ", ".join(kind.name.lower() for kind in GGMLType)


def parse_type(name: str) -> GGMLType:
    """Return the tensor type called ``name`` (any case); ConvertError lists the known ones."""
    try:
        return GGMLType[name.upper()]
    except KeyError:
        raise ConvertError(f"unknown tensor type {name!r}", hint=f"Use one of {_KNOWN}.") from None


@dataclass(frozen=True)
class TypeOverrides:
    """Chosen types; the default chooses none.

    Attributes:
        output: of the output matrix, and of an embedding that doubles as it.
        embedding: of the token embedding.
        tensors: (compiled pattern, type) pairs, searched in a tensor's GGUF name.
    """

    output: GGMLType | None = None
    embedding: GGMLType | None = None
    tensors: tuple[tuple[re.Pattern[str], GGMLType], ...] = ()

    @classmethod
    def parse(
        cls, output: str | None, embedding: str | None, tensors: Iterable[str]
    ) -> TypeOverrides:
        """Make overrides from names and ``regex=type`` texts; ConvertError when one is wrong."""
        pairs = []
        for text in tensors:
            pattern, separator, name = text.rpartition("=")
            if not separator or not pattern:
                raise ConvertError(
                    f"--tensor-type {text!r} is not of the form regex=type",
                    hint="For example: --tensor-type 'attn_v=q8_0'.",
                )
            try:
                pairs.append((re.compile(pattern.lower()), parse_type(name)))
            except re.error as error:
                raise ConvertError(
                    f"--tensor-type {text!r}: {error}", hint="The part before = is a regex."
                ) from None
        return cls(
            parse_type(output) if output else None,
            parse_type(embedding) if embedding else None,
            tuple(pairs),
        )

    def for_tensor(self, name: str) -> GGMLType | None:
        """Return the type that a pattern gives to ``name``, or None."""
        return next((kind for pattern, kind in self.tensors if pattern.search(name)), None)
