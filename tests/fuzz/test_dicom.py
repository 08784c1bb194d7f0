"""Mutated DICOM is read right or refused in one line. `make fuzz N=5000` tries more of them."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.mutants import MUTANTS, Outcome, Tally, mutant, outcome, seeds

COUNT = int(os.environ.get("CTSR_FUZZ", "60"))
"""Mutants of each seed."""
SEEDS = seeds()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("encoding", SEEDS)
def test_a_mutated_file_is_read_right_or_refused_in_words(
    encoding: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    tally = Tally(f"DICOM {encoding}")
    for number in range(COUNT):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(mutant(SEEDS[encoding], np.random.default_rng([42, number])))
        tally.judge(number, partial(outcome, path))
        path.unlink()
    record_property(MUTANTS, str(tally))
    assert tally.counts[Outcome.NAMED] > COUNT / 10
    assert tally.counts[Outcome.RIGHT] > COUNT / 10


@pytest.mark.parametrize("encoding", SEEDS)
def test_what_mutants_are_made_from_is_read_right(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "seed.dcm"
    path.write_bytes(SEEDS[encoding])
    assert outcome(path)[0] is Outcome.RIGHT


def test_real_files_mutate_well(real_ct: Path, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    sources = sorted(path for path in (real_ct / "odd" / "pydicom_data").rglob("*") if path.is_file())
    small = [path for path in sources if path.stat().st_size < 300_000][:4]
    assert small
    for source in small:
        tally = Tally(f"real {source.name}")
        for number in range(COUNT // 6):
            path = tmp_path / "IM"
            path.write_bytes(mutant(source.read_bytes(), np.random.default_rng([7, number])))
            tally.judge(number, partial(outcome, path))
        record_property(MUTANTS, str(tally))
