"""Mutated NIfTI is read as nibabel reads it, or refused in one line. `make fuzz N=5000` tries more of them."""

import gzip
import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.random import Generator

from ctsr.exams import scan_patient
from ctsr.series import Series
from tests.fuzz.mutants import MUTANTS, Outcome, Read, Tally, judged
from tests.made.ct import chest

COUNT = int(os.environ.get("CTSR_FUZZ", "60"))
"""Mutants of each seed."""
HOSTILE = (0.0, -1.0, 1e-30, 1e-3, 2.0, 1e5, 1e30, float("nan"), float("inf"), 3e38)
SHORTS = (0, 1, 2, 3, 4, 7, 8, 16, 64, 128, 256, 511, 512, 768, 1024, 2048, 32767, -1, -32768)
FLOATS = (*range(76, 108, 4), *range(112, 120, 4), *range(256, 328, 4), 108)
"""Offsets of numbers in the header: pixdim, scl_slope and scl_inter, quaternion and affine, vox_offset."""
WHOLE = (*range(40, 56, 2), 70, 72, 252, 254)
"""The same of dim, datatype, bitpix, qform_code and sform_code."""
UNITS = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}


def seed(dtype: str) -> bytes:
    """A volume of three slices."""
    hu = np.stack([chest(24, 20, seed=i) for i in range(3)], axis=-1).transpose(1, 0, 2)
    image = nib.Nifti1Image(hu.astype(dtype), np.diag([-0.8, -0.8, 2.5, 1.0]))
    image.header.set_xyzt_units("mm")
    return image.to_bytes()


SEEDS = {"int16": seed("<i2"), "float32": seed("<f4")}


def mutant(content: bytes, rng: Generator) -> bytes:
    """A changed copy of a file."""
    changed = bytearray(content)
    match int(rng.integers(7)):
        case 0:
            for place in rng.integers(len(content), size=int(rng.integers(1, 6))):
                changed[place] ^= 1 << int(rng.integers(8))
        case 1:
            changed[int(rng.integers(348))] = int(rng.integers(256))
        case 2 | 3:
            struct.pack_into("<f", changed, int(rng.choice(FLOATS)), float(rng.choice(HOSTILE)))
        case 4:
            struct.pack_into("<h", changed, int(rng.choice(WHOLE)), int(rng.choice(SHORTS)))
        case 5:
            del changed[int(rng.integers(len(content))) :]
        case _:
            start = int(rng.integers(len(content)))
            changed[start : start + 50] = bytes(50)
    return bytes(changed)


def outcome(path: Path) -> tuple[Outcome, str]:
    """Scan and read a file, and judge values and places by nibabel; with a word on what is wrong."""
    return judged(path, partial(_beside_nibabel, path))


def _beside_nibabel(path: Path, found: list[Read]) -> tuple[Outcome, str]:
    image = nib.load(path)
    values = np.asanyarray(image.dataobj)
    values = values.reshape(values.shape[:3])
    scale = UNITS.get(image.header.get_xyzt_units()[0], 1.0)
    to_index = np.linalg.inv(np.diag([-scale, -scale, scale, 1.0]) @ image.affine)
    for series, index, pixels in found:
        for row, column in ((0, 0), (5, 3), (series.rows - 1, series.columns - 1), (series.rows // 2, 7)):
            if pixels.padding is not None and pixels.padding[row, column]:
                continue
            place = place_of(series, index, row, column) @ to_index.T
            i, j, k = place[:3].round().astype(int)
            if np.abs(place[:3] - (i, j, k)).max() > 0.02 or not np.isclose(values[i, j, k], pixels.hu[row, column]):
                return Outcome.WRONG, f"{pixels.hu[row, column]} at {place[:3]}"
    return Outcome.RIGHT, ""


def place_of(series: Series, index: int, row: int, column: int) -> np.ndarray:
    """Homogeneous LPS position of a pixel."""
    return np.array([*series.plane(index).position(row, column), 1.0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("dtype", SEEDS)
def test_a_mutated_volume_is_read_right_or_refused_in_words(
    dtype: str, suffix: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    tally = Tally(f"NIfTI {dtype} {suffix}")
    for number in range(COUNT // 2):
        path = tmp_path / f"{number}.{suffix}"
        content = mutant(SEEDS[dtype], np.random.default_rng([number, len(suffix)]))
        path.write_bytes(gzip.compress(content, 1) if suffix == "nii.gz" else content)
        tally.judge(number, partial(outcome, path))
        path.unlink()
    record_property(MUTANTS, str(tally))
    assert tally.counts[Outcome.NAMED] > COUNT / 20
    assert tally.counts[Outcome.RIGHT] > COUNT / 20


def test_a_header_that_promises_more_than_there_is_takes_no_memory(tmp_path: Path) -> None:
    content = bytearray(SEEDS["int16"])
    for axis, size in enumerate((32000, 32000, 30000)):
        struct.pack_into("<h", content, 42 + 2 * axis, size)
    for name, stored in (("a.nii", bytes(content)), ("a.nii.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(stored)
    reasons = {excluded.reason for excluded in scan_patient(tmp_path).excluded}
    assert len(reasons) == 1
    assert "cut short" in reasons.pop()
