"""Sharpness of a series: a known blur is found, with noise and at any sub-pixel position."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ctsr.exams import read_slice, scan
from ctsr.quality.sharpness import REACH, TEN_TO_NINETY, edge_points, measure_sharpness
from tests.quality.images import blurred_discs, ct_noise


@pytest.mark.parametrize("sigma", [0.4, 0.5, 0.7, 0.9, 1.2, 1.6])
@pytest.mark.parametrize("noise", [0.0, 10.0, 60.0])
def test_a_known_blur_is_found_to_a_tenth_of_a_pixel(sigma: float, noise: float) -> None:
    rng = np.random.default_rng(0)
    slices = [blurred_discs(256, sigma, rng) for _ in range(2)]
    slices = [hu + ct_noise(hu.shape, noise, rng, 0.4, 0.8) for hu in slices]
    found = measure_sharpness(slices, (0.8, 0.8))
    assert found.blur_sigma_pixels == pytest.approx(sigma, abs=0.1)
    assert found.blur_sigma_mm == pytest.approx(0.8 * sigma, abs=0.08)
    assert found.edge_width_10_90_mm == pytest.approx(TEN_TO_NINETY * 0.8 * sigma, abs=0.2)


@pytest.mark.parametrize("low", [-870.0, -100.0])
def test_lung_and_fat_have_edges_as_air_has(low: float) -> None:
    rng = np.random.default_rng(0)
    slices = [blurred_discs(256, 0.8, rng, low, low + 250) + ct_noise((256, 256), 8, rng, 0.4, 0.8) for _ in range(3)]
    assert measure_sharpness(slices, (0.8, 0.8)).blur_sigma_pixels == pytest.approx(0.8, abs=0.1)


def test_blunt_edges_beside_sharp_ones_do_not_count() -> None:
    """As anatomy has it: only some surfaces are steep enough to show what the scanner does."""
    rng = np.random.default_rng(0)
    slices = [blurred_discs(256, sigma, rng) for sigma in (0.8, 1.5, 1.8)]
    assert measure_sharpness(slices, (0.8, 0.8)).blur_sigma_pixels == pytest.approx(0.8, abs=0.1)


def test_air_and_texture_have_no_figures_but_a_reason() -> None:
    rng = np.random.default_rng(0)
    for image in (np.full((128, 128), -1000.0), rng.normal(40, 60, (128, 128)), np.zeros((8, 8))):
        found = measure_sharpness([image.astype(np.float32)], (0.8, 0.8))
        assert found.blur_sigma_mm is None
        assert "edges" in found.reason


def test_the_rim_of_padding_is_no_edge() -> None:
    image = np.full((128, 128), 40, np.float32)
    padding = np.zeros(image.shape, bool)
    padding[:, :40] = True
    image[padding] = -1000
    assert not len(edge_points(image, padding))
    assert len(edge_points(image))


@pytest.mark.parametrize("finer", [1, 2])
def test_no_pixel_of_padding_is_in_a_fit(finer: int) -> None:
    """Along the diagonals, too, where the rim of a circle was nearer than a fit reaches."""
    image = np.random.default_rng(0).normal(0, 200, (192, 192)).astype(np.float32)
    rows, columns = np.indices(image.shape)
    padding = np.hypot(rows - 95.5, columns - 95.5) > 80
    points = edge_points(image, padding, finer=finer)
    away = ndimage.distance_transform_edt(~padding)
    assert len(points) > 50
    assert away[points[:, 0], points[:, 1]].min() > finer * REACH + 0.5


def test_a_real_series_blurred_by_a_known_amount_shows_it(real_ct: Path) -> None:
    series = next(iter(scan(real_ct / "patients/RIDER-0117").all_series()))
    slices = [read_slice(series, index).hu for index in (10, 30)]
    own = measure_sharpness(slices, series.pixel_spacing).blur_sigma_pixels
    assert own is not None
    for blur in (0.6, 1.0):
        blurred = [ndimage.gaussian_filter(hu, blur) for hu in slices]
        found = measure_sharpness(blurred, series.pixel_spacing).blur_sigma_pixels
        assert found == pytest.approx(np.hypot(own, blur), abs=0.12)


def test_two_scans_by_one_kernel_are_as_sharp_and_a_sharper_kernel_is_sharper(real_ct: Path) -> None:
    blur: dict[str, float] = {}
    for name in ("CTP404_FOV150_se24_H31s", "CTP486_se42_H31s", "CTP591_06mm_se2_B60f"):
        series = next(iter(scan(real_ct / "phantoms/imageQC" / name).all_series()))
        found = measure_sharpness([read_slice(series, 0).hu], series.pixel_spacing).blur_sigma_mm
        assert found is not None
        blur[name[-4:]] = max(found, blur.get(name[-4:], 0))
        if name.startswith("CTP486"):
            assert found == pytest.approx(blur["H31s"], rel=0.05)
    assert blur["B60f"] < 0.6 * blur["H31s"]
