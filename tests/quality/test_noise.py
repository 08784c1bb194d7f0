"""Noise of a series: known noise is found on phantoms and on anatomy, and no figure is invented."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ctsr.exams import read_slice, scan
from ctsr.quality.noise import measure_noise
from tests.quality.images import ct_noise, mean_frequency, torso


@pytest.mark.parametrize("sigma", [3.0, 10.0, 25.0, 60.0])
@pytest.mark.parametrize(("pixel_mm", "cutoff"), [(0.4, 0.35), (0.7, 0.3), (0.7, 0.6), (0.9, 0.5), (1.37, 0.25)])
def test_known_noise_is_found_to_5_percent(sigma: float, pixel_mm: float, cutoff: float) -> None:
    rng = np.random.default_rng(0)
    slices = [torso() + ct_noise((256, 256), sigma, rng, cutoff, pixel_mm) for _ in range(3)]
    found = measure_noise(slices, (pixel_mm, pixel_mm))
    assert found.sigma_hu == pytest.approx(sigma, rel=0.05)
    assert found.mean_frequency_per_mm == pytest.approx(mean_frequency(cutoff, pixel_mm), rel=0.1)


@pytest.mark.parametrize("sigma", [3.0, 20.0, 60.0])
def test_white_noise_is_found_as_well(sigma: float) -> None:
    rng = np.random.default_rng(1)
    slices = [(torso() + rng.normal(0, sigma, (256, 256))).astype(np.float32) for _ in range(2)]
    found = measure_noise(slices, (0.8, 0.8))
    assert found.sigma_hu == pytest.approx(sigma, rel=0.05)
    # Read too high: the lowest frequencies, which white noise has and that of CT does not, are left out.
    assert found.mean_frequency_per_mm == pytest.approx(0.25 / 0.8, rel=0.13)


def test_air_has_no_figures_but_a_reason() -> None:
    rng = np.random.default_rng(0)
    found = measure_noise([rng.normal(-1000, 10, (128, 128)).astype(np.float32)], (0.8, 0.8))
    assert found.sigma_hu is None
    assert found.mean_frequency_per_mm is None
    assert "soft tissue" in found.reason


def test_an_image_without_noise_has_none() -> None:
    found = measure_noise([torso()], (0.8, 0.8))
    assert found.sigma_hu == pytest.approx(0, abs=0.5)
    constant = measure_noise([np.full((64, 64), 40, np.float32)], (0.8, 0.8))
    assert constant.sigma_hu == pytest.approx(0, abs=1e-6)
    assert constant.mean_frequency_per_mm is None


def test_padding_is_not_measured() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(40, 20, (128, 128)).astype(np.float32)
    image[:, 64:] = 40
    padding = np.zeros(image.shape, bool)
    padding[:, 64:] = True
    assert measure_noise([image], (0.8, 0.8), [padding]).sigma_hu == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize("patient", ["patients/RIDER-0117", "more/TCGA-VQ-AA6F", "phantoms/imageQC/CTP486_se42_H31s"])
@pytest.mark.parametrize("sigma", [6.0, 15.0, 60.0])
def test_noise_added_to_a_quiet_real_slice_is_found_to_5_percent(real_ct: Path, patient: str, sigma: float) -> None:
    series = next(iter(scan(real_ct / patient).all_series()))
    # Blurred, a slice keeps its anatomy and loses its noise.
    quiet = [ndimage.gaussian_filter(read_slice(series, i).hu, 1.5) for i in range(0, len(series.slices), 16)]
    own = measure_noise(quiet, series.pixel_spacing).sigma_hu
    assert own is not None
    rng = np.random.default_rng(3)
    noisy = [hu + ct_noise(hu.shape, sigma, rng, 0.4, series.pixel_spacing[0]) for hu in quiet]
    assert measure_noise(noisy, series.pixel_spacing).sigma_hu == pytest.approx(np.hypot(sigma, own), rel=0.05)
