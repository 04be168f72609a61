from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_llama import OutOfMemoryError, inspect
from edge_llama.memory import check_context_fits, kv_cache_bytes

if TYPE_CHECKING:
    from pathlib import Path


def test_kv_cache_of_the_embedded_model(embedded: Path) -> None:
    """Figures that llama.cpp logs for it: 30 layers, 3 heads of 64, f16 and q8_0."""
    info = inspect(embedded)
    assert kv_cache_bytes(info, 4096, "f16") == 90 * 2**20
    assert kv_cache_bytes(info, 2048, "q8_0") == int(23.90625 * 2**20)


def test_an_impossible_context_is_refused_before_anything_is_allocated(embedded: Path) -> None:
    with pytest.raises(OutOfMemoryError, match="this machine has") as caught:
        check_context_fits(inspect(embedded), 2**30, "f16")
    assert "--ctx" in caught.value.hint
    check_context_fits(inspect(embedded), 4096, "f16")
