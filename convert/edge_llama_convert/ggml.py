"""The few functions of libggml-base that quantising needs, through ctypes.

The library is the one llama-cpp-python ships; it is found without importing that package, so
that converting never loads the inference engine.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import sys
from enum import IntEnum
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from .errors import NativeLibraryError

_REINSTALL = "Reinstall it: pip install --force-reinstall --no-cache-dir llama-cpp-python==0.3.36"


class GGMLType(IntEnum):
    """ggml's tensor types that the converter writes (numbers of ``enum ggml_type`` in ggml.h)."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    IQ4_NL = 20
    IQ4_XS = 23
    BF16 = 30

    @property
    def block_elements(self) -> int:
        """Elements per block; a row must be a multiple of it."""
        return _BLOCKS[self][0]

    @property
    def is_quantised(self) -> bool:
        """Whether the type stores blocks with scales rather than plain floats."""
        return self not in {GGMLType.F32, GGMLType.F16, GGMLType.BF16}

    @property
    def uses_importance(self) -> bool:
        """Whether an importance matrix changes the values; ggml's Q8_0 does without."""
        return self.is_quantised and self is not GGMLType.Q8_0

    def row_bytes(self, n_per_row: int) -> int:
        """Bytes that a row of ``n_per_row`` elements takes."""
        elements, size = _BLOCKS[self]
        return n_per_row // elements * size


#: Elements and bytes per block (ggml-common.h, the block_* structs).
_BLOCKS = {
    GGMLType.F32: (1, 4),
    GGMLType.F16: (1, 2),
    GGMLType.BF16: (1, 2),
    GGMLType.Q4_0: (32, 18),
    GGMLType.Q4_1: (32, 20),
    GGMLType.Q5_0: (32, 22),
    GGMLType.Q5_1: (32, 24),
    GGMLType.Q8_0: (32, 34),
    GGMLType.IQ4_NL: (32, 18),
    GGMLType.Q2_K: (256, 84),
    GGMLType.Q3_K: (256, 110),
    GGMLType.Q4_K: (256, 144),
    GGMLType.Q5_K: (256, 176),
    GGMLType.Q6_K: (256, 210),
    GGMLType.IQ4_XS: (256, 136),
}

_SIGNATURES: dict[str, tuple[type | None, list[type]]] = {
    "ggml_quantize_chunk": (
        ctypes.c_size_t,
        [
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_int64,
            ctypes.c_int64,
            ctypes.c_int64,
            ctypes.c_void_p,
        ],
    ),
    "ggml_validate_row_data": (ctypes.c_bool, [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]),
    "ggml_bf16_to_fp32_row": (None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]),
    "ggml_fp16_to_fp32_row": (None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]),
    "ggml_get_type_traits": (ctypes.c_void_p, [ctypes.c_int]),
    "ggml_row_size": (ctypes.c_size_t, [ctypes.c_int, ctypes.c_int64]),
    "ggml_version": (ctypes.c_char_p, []),
    "ggml_commit": (ctypes.c_char_p, []),
}

_ToFloat = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class _TypeTraits(ctypes.Structure):
    """``struct ggml_type_traits`` of ggml.h."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.c_void_p),
        ("from_float_ref", ctypes.c_void_p),
    )


class GGML:
    """libggml-base, loaded. Pointers are addresses (int); every call releases the GIL."""

    def __init__(self, path: Path) -> None:
        self._decoders: dict[str, Any] = {}
        try:
            self._library = ctypes.CDLL(str(path))
            for name, (result, arguments) in _SIGNATURES.items():
                function = getattr(self._library, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise NativeLibraryError(f"{path}: {error}", hint=_REINSTALL) from error
        for kind in GGMLType:  # a mismatch here would write past the end of a buffer
            if self._library.ggml_row_size(int(kind), 256) != kind.row_bytes(256):
                raise NativeLibraryError(
                    f"{path}: rows of type {kind.name} have another size than expected",
                    hint=_REINSTALL,
                )

    @property
    def version(self) -> str:
        """The library's version and the commit it was built from."""
        parts = (self._library.ggml_version(), self._library.ggml_commit())
        return " ".join(part.decode() for part in parts)

    def to_float32(self, dtype: str, source: int, target: int, count: int) -> None:
        """Convert ``count`` elements of any type but F32, at address ``source``, to float32.

        Of a quantised type ``count`` must be whole blocks.
        """
        name = {"BF16": "ggml_bf16_to_fp32_row", "F16": "ggml_fp16_to_fp32_row"}.get(dtype)
        function = getattr(self._library, name) if name else self._decoder(dtype)
        function(source, target, count)

    def can_decode(self, dtype: str) -> bool:
        """Whether elements of a type, by its name in ``gguf``, can be turned into float32."""
        return dtype in {"F32", "F16", "BF16"} or self._decoder(dtype) is not None

    def _decoder(self, dtype: str) -> Any:
        if dtype not in self._decoders:
            number = GGMLQuantizationType[dtype]
            traits = _TypeTraits.from_address(self._library.ggml_get_type_traits(int(number)))
            # Another struct layout would make the pointer below one to anything.
            named = (traits.type_name or b"").upper() == dtype.encode()
            sizes = (traits.blck_size, traits.type_size) == GGML_QUANT_SIZES[number]
            if not (named and sizes) and traits.to_float:
                raise NativeLibraryError(
                    f"libggml-base describes the type {dtype} otherwise than expected",
                    hint=_REINSTALL,
                )
            quantised = traits.is_quantized and traits.to_float
            self._decoders[dtype] = _ToFloat(traits.to_float) if quantised else None
        return self._decoders[dtype]

    def quantise(  # noqa: PLR0913 - a C function's arguments
        self,
        kind: GGMLType,
        source: int,
        target: int,
        rows: int,
        n_per_row: int,
        *,
        importance: int | None = None,
    ) -> int:
        """Quantise float32 rows; return the bytes written.

        ``n_per_row`` must be a multiple of the block size: ggml asserts it and would abort.
        ``importance`` is the address of ``n_per_row`` float32 weights, used for every row.
        """
        if n_per_row % kind.block_elements:
            raise ValueError(f"{n_per_row} elements per row do not fit {kind.name}")
        written: int = self._library.ggml_quantize_chunk(
            int(kind), source, target, 0, rows, n_per_row, importance
        )
        return written

    def is_valid(self, kind: GGMLType, data: int, nbytes: int) -> bool:
        """Whether the quantised bytes at address ``data`` hold no NaN or Inf."""
        return bool(self._library.ggml_validate_row_data(int(kind), data, nbytes))


@functools.cache
def load_ggml() -> GGML:
    """Load libggml-base once per process; NativeLibraryError when it cannot be found."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        raise NativeLibraryError(
            "llama-cpp-python is not installed",
            hint="Install it: pip install llama-cpp-python==0.3.36",
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "lib"
    names = {
        "win32": ["ggml-base.dll", "libggml-base.dll"],
        "darwin": ["libggml-base.dylib", "libggml-base.so"],
    }.get(sys.platform, ["libggml-base.so"])
    for name in names:
        if (folder / name).is_file():
            return GGML(folder / name)
    raise NativeLibraryError(f"{folder}: no {names[0]}", hint=_REINSTALL)
