from pathlib import Path

import numpy as np
import pytest

from ctsr.exams import read_slice, scan_patient
from ctsr.padding import SlicePixels, outside_reconstruction
from ctsr.volume import PaddingMask, VoxelsHU
from tests.made.ct import ellipse

SIZE = 256


def air(seed: int = 0, sigma: float = 12) -> VoxelsHU:
    """Noisy air, clipped at −1024 HU as scanners store it, with soft tissue in the middle."""
    rng = np.random.default_rng(seed)
    hu = rng.normal(-1000, sigma, (SIZE, SIZE))
    hu[ellipse(hu.shape, 0.47, 0.7)] += 1040
    return hu.round().clip(-1024, 3000).astype(np.float32)


def outside(row: float, column: float, radius: float) -> PaddingMask:
    y, x = np.ogrid[:SIZE, :SIZE]
    return np.hypot(y - row, x - column) > radius


CENTRED = outside(127.5, 127.5, 128)
SHIFTED = outside(122, 131, 122)
CORNERS = outside(130, 126, 165)


@pytest.mark.parametrize("fill", [-3024, -2048, -2000, -1500, -1024])
@pytest.mark.parametrize("mask", [CENTRED, SHIFTED, CORNERS], ids=["centred", "shifted", "corners only"])
def test_the_fill_outside_the_reconstruction_circle_is_found(fill: float, mask: PaddingMask) -> None:
    found = outside_reconstruction(np.where(mask, np.float32(fill), air()))
    assert found is not None
    # Clipped air on the rim may have the fill's value; only there may the two differ.
    assert (found & ~mask).sum() <= (0 if fill < -1100 else 60)
    assert not (mask & ~found).any()


@pytest.mark.parametrize("sigma", [4, 12, 25, 40])
def test_true_air_is_not_padding_however_much_of_it_is_clipped(sigma: float) -> None:
    assert outside_reconstruction(air(sigma=sigma)) is None


@pytest.mark.parametrize("value", [-1024, -1000, -998])
def test_air_of_one_value_around_a_body_is_not_padding(value: float) -> None:
    hu = air()
    hu[hu < -500] = value
    assert outside_reconstruction(hu) is None


def test_a_round_phantom_in_constant_air_is_not_the_reconstruction_circle() -> None:
    hu = np.where(outside(127.5, 127.5, 100), np.float32(-1000), np.float32(0))
    assert outside_reconstruction(hu) is None


@pytest.mark.parametrize("value", [0, 40, -100])
def test_tissue_that_fills_the_image_is_not_padding(value: float) -> None:
    assert outside_reconstruction(np.full((SIZE, SIZE), value, dtype=np.float32)) is None


def test_fill_is_padding_only_where_it_reaches_the_border() -> None:
    hu = np.where(CENTRED, np.float32(-2048), air())
    hu[120:125, 120:125] = -2048
    found = outside_reconstruction(hu)
    assert found is not None
    assert not found[120:125, 120:125].any()


def test_fill_blurred_by_lossy_compression_is_found() -> None:
    rng = np.random.default_rng(1)
    found = outside_reconstruction(np.where(CENTRED, rng.normal(-3024, 60, (SIZE, SIZE)), air()).astype(np.float32))
    assert found is not None
    assert (found == CENTRED).all()


def test_padded_pixels_read_as_air() -> None:
    hu = np.where(CENTRED, np.float32(-3024), air())
    pixels = SlicePixels.from_padded(hu, CENTRED)
    assert (pixels.hu[CENTRED] == -1000).all()
    assert (pixels.hu[~CENTRED] == hu[~CENTRED]).all()
    assert SlicePixels.from_padded(hu, np.zeros_like(CENTRED)).padding is None


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("patients/ACRIN-013", 0.181),  # −1024 HU, streaks beyond the circle
        ("patients/LungFCP-01-0001", 0.019),  # −1024 HU in the corners only, the table across the lower ones
        ("singles/TCGA-50-5044", 0.238),  # −1024 HU, the circle off centre, clipped air along its rim
        ("singles/A067967", 0.228),  # −2048 HU
        ("patients/KiTS-00072", 0.0),  # none: true air in the corners
        ("odd/phantom_S2010_soft_5mm", 0.0),  # none
    ],
)
def test_padding_of_real_scanners_is_found_without_a_tag(real_ct: Path, name: str, share: float) -> None:
    series = scan_patient(real_ct / name).series[0]
    shares = []
    for index in range(0, len(series.slices), 5):
        padding = read_slice(series, index).padding
        shares.append(0.0 if padding is None else float(padding.mean()))
    assert np.allclose(shares, share, atol=0.006), shares
