"""Files damaged at random: each gives a typed error or works; none ends, hangs or bloats us.

``EDGE_LLAMA_MUTANTS=20000 pytest tests/test_hostile.py`` tries that many, and some of the embedded
model, which take longer. A failure names the base and the seed of the file.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import hostile
import pytest

MUTANTS = int(os.environ.get("EDGE_LLAMA_MUTANTS", "500"))

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc"),
    pytest.mark.timeout(600 + MUTANTS),
]


def try_all(cases: list[hostile.Case], folder: Path) -> Counter[str]:
    """Run the cases after the sound files they come from; return how often each ending came."""
    bases = sorted({base for base, _ in cases})
    endings: Counter[str] = Counter()
    sound: dict[str, float] = {}
    for outcome in hostile.run([*((base, -1) for base in bases), *cases], folder):
        base, seed = outcome.case
        if seed < 0:
            assert outcome.ending == "works", outcome
            sound[base] = outcome.mib
            continue
        assert not outcome.ending.startswith(("CRASH", "HANG")), outcome
        assert outcome.seconds < 2, outcome
        assert outcome.mib < sound[base] + 64, outcome
        endings[outcome.ending] += 1
    return endings


def test_damaged_files_of_every_kind(tmp_path: Path) -> None:
    bases = ("bpe", "spm", "spm-4", "split")
    cases = [(bases[seed % len(bases)], seed) for seed in range(MUTANTS)]
    endings = try_all(cases, tmp_path)
    # Not all damage matters, and not all is found by the same rule: both must have been seen.
    assert endings["works"] > MUTANTS / 20
    assert endings["ModelFileError"] > MUTANTS / 2


@pytest.mark.model
def test_damaged_files_with_a_real_vocabulary(tmp_path: Path) -> None:
    cases = [("real", seed) for seed in range(MUTANTS // 10)]
    cases += [("embedded", seed) for seed in range(MUTANTS // 50 if MUTANTS > 500 else 0)]
    assert try_all(cases, tmp_path)["ModelFileError"] > MUTANTS / 20
