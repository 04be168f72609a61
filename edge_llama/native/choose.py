"""Choosing a token without copying all logits; absent where nothing could compile it.

The chain gets the likeliest tokens that its top-k filter would leave of all, so that it chooses the
same (``choose.cpp``, tests/test_choose.py).
"""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .library import llama

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..sampling import Sampling

    #: (chain, context, index, n_vocab, k) -> token, or -1 if nothing was done
    Chooser = Callable[[int, int, int, int, int], int]

_ABI = 1
#: Candidates that the library has room for.
_MOST = 256

#: When a sampler changes nothing, as llama.cpp sees it.
_OFF: dict[str, Callable[[Sampling], bool]] = {
    "penalties": lambda o: (
        o.penalty_last_n == 0
        or (o.repeat_penalty, o.frequency_penalty, o.presence_penalty) == (1, 0, 0)
    ),
    "dry": lambda o: not o.dry_multiplier,
    "top_n_sigma": lambda o: (o.top_n_sigma or 0) <= 0,
    "top_k": lambda o: (o.top_k or 0) <= 0,
    "typ_p": lambda o: (o.typical_p or 0) >= 1,
    "top_p": lambda o: (o.top_p or 0) >= 1,
    "min_p": lambda o: (o.min_p or 0) <= 0,
    "xtc": lambda o: (o.xtc_probability or 0) <= 0,
}


def count_likeliest(options: Sampling) -> int | None:
    """Return how many of the likeliest tokens decide; None if others have a say.

    ``options`` are resolved, and bias no token.
    """
    if options.mirostat:
        return None
    if options.is_greedy:
        return 1 if _OFF["penalties"](options) and _OFF["dry"](options) else None
    for name in options.samplers or ():
        if name == "top_k" and not _OFF[name](options):
            assert options.top_k is not None  # noqa: S101 - it is not off
            return options.top_k if options.top_k <= _MOST else None
        if name not in _OFF or not _OFF[name](options):
            return None
    return None


@functools.cache
def load_chooser() -> Chooser | None:
    """Load the library once per process; None without it, or with EDGE_LLAMA_KERNELS=0."""
    path = Path(__file__).with_name("_choose.so")
    if os.environ.get("EDGE_LLAMA_KERNELS") == "0" or not path.is_file():
        return None
    lib = llama()
    try:
        library = ctypes.CDLL(str(path))
        addresses = [_address(lib, name) for name in _CALLED]
        if library.edge_choose_abi() != _ABI or not _has_layout(lib):
            return None
    except (OSError, AttributeError):  # built for another machine, or of another release
        return None
    choose = library.edge_choose
    choose.restype = ctypes.c_int32
    choose.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int32] * 3]
    choose.argtypes += [ctypes.c_void_p] * len(addresses)

    def chooser(chain: int, context: int, index: int, n_vocab: int, k: int) -> int:
        return int(choose(chain, context, index, n_vocab, k, *addresses))

    return chooser


_CALLED = ("llama_sampler_apply", "llama_sampler_accept", "llama_get_logits_ith")


def _address(lib: Any, name: str) -> int | None:
    return ctypes.cast(getattr(lib._lib, name), ctypes.c_void_p).value  # noqa: SLF001 - its DLL


def _has_layout(lib: Any) -> bool:
    """Whether llama.cpp's structs are those that ``choose.cpp`` was written for."""
    one, array = lib.llama_token_data, lib.llama_token_data_array
    offsets = [getattr(array, name).offset for name in ("data", "size", "selected", "sorted")]
    return ctypes.sizeof(one) == 12 and offsets == [0, 8, 16, 24]
