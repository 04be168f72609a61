"""What a SentencePiece model says of itself beside its pieces.

The library encodes with it but does not tell it. The file is a protocol buffer, ``ModelProto`` in
https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto; the few fields
that matter are read here, the rest is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

#: Field numbers, of ModelProto, TrainerSpec and NormalizerSpec.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_MODEL_TYPE, _WHITESPACE_AS_SUFFIX = 3, 24
_NAME, _CHARSMAP, _DUMMY_PREFIX, _EXTRA_WHITESPACES, _ESCAPE = 1, 2, 3, 4, 5

#: The end of a piece whose type (field 3) is USER_DEFINED (4); it is written last.
_USER_DEFINED = b"\x18\x04"


class ModelType(IntEnum):
    """How a text is cut into pieces (TrainerSpec.ModelType)."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


@dataclass(frozen=True)
class ModelSpec:
    """The settings of a SentencePiece model; the defaults are the format's.

    Attributes:
        model_type: how a text is cut into pieces; None is a number nobody has given a meaning.
        space_after: spaces belong to the word before them.
        normaliser: the name of the rules that rewrite characters, "" when there are none.
        adds_space: a text gets a space in front.
        removes_spaces: runs of spaces become one, and those at the ends are dropped.
        escapes_spaces: spaces become U+2581.
        user_defined: ids of pieces that are found in a text before it is cut.
    """

    model_type: ModelType | None = ModelType.UNIGRAM
    space_after: bool = False
    normaliser: str = ""
    adds_space: bool = True
    removes_spaces: bool = True
    escapes_spaces: bool = True
    user_defined: frozenset[int] = frozenset()

    @property
    def rewrites(self) -> list[str]:
        """What happens to a text before it is cut, in words."""
        found = [f"rewrites characters ({self.normaliser})"] if self.normaliser else []
        return found + (["makes runs of spaces one"] if self.removes_spaces else [])


def read_spec(data: bytes) -> ModelSpec:
    """Return the settings in the serialised model ``data``; ValueError when it is damaged."""
    trainer: dict[int, int | bytes] = {}
    normaliser: dict[int, int | bytes] = {}
    user_defined, count = [], 0
    for field, value in _fields(data):
        if field == _PIECES and isinstance(value, bytes):
            # It looks for them after spaces became U+2581, so never for one with a space.
            if value.endswith(_USER_DEFINED) and b" " not in value:
                user_defined.append(count)
            count += 1
        elif field in {_TRAINER, _NORMALIZER} and isinstance(value, bytes):
            # A message that appears twice is merged, its later fields count.
            (trainer if field == _TRAINER else normaliser).update(_fields(value))
    number = trainer.get(_MODEL_TYPE, ModelType.UNIGRAM)
    name = normaliser.get(_NAME, b"")
    return ModelSpec(
        model_type=ModelType(number) if number in set(ModelType) else None,
        space_after=bool(trainer.get(_WHITESPACE_AS_SUFFIX, 0)),
        normaliser=(name.decode("utf-8", "replace") if isinstance(name, bytes) and name else "?")
        if normaliser.get(_CHARSMAP)
        else "",
        adds_space=bool(normaliser.get(_DUMMY_PREFIX, 1)),
        removes_spaces=bool(normaliser.get(_EXTRA_WHITESPACES, 1)),
        escapes_spaces=bool(normaliser.get(_ESCAPE, 1)),
        user_defined=frozenset(user_defined),
    )


def with_space_prefix(data: bytes, *, adds_space: bool) -> bytes:
    """Return the serialised model with another answer to whether a text gets a space in front."""
    return data + _message(_NORMALIZER, bytes([_DUMMY_PREFIX << 3 | _VARINT, adds_space]))


def without_rewriting(data: bytes) -> bytes:
    """Return the serialised model with rules that leave characters and spaces as they are."""
    return data + _message(
        _NORMALIZER,
        bytes([_CHARSMAP << 3 | _BYTES, 0, _EXTRA_WHITESPACES << 3 | _VARINT, False]),
    )


def _message(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | _BYTES, len(content)]) + content


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of every field of a message (protobuf's wire format)."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in {_FIXED32, _FIXED64}:
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(data):
            raise ValueError("a field goes beyond the end")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("a number goes beyond the end")
