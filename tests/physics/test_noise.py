"""Noise power spectra of noise whose spectrum is known."""

import numpy as np
import numpy.typing as npt
import pytest

from ctsr.errors import DomainError
from ctsr.physics import NoiseSlice, homogeneous_regions, noise_study, power_map, spectrum_of
from ctsr.quality.noise import detrended
from tests.made.slices import body

PIXEL = 0.7
SIGMA = 12.0


def white(count: int = 300, size: int = 32) -> npt.NDArray[np.float64]:
    return np.random.default_rng(1).normal(0, SIGMA, (count, size, size))


def test_white_noise_is_flat_at_sigma_squared_times_the_pixels_area() -> None:
    found = spectrum_of([power_map(white(), PIXEL)], PIXEL, 300)
    # The first rings lose what the trend takes with it.
    assert np.allclose(found.power_hu2_mm2[2:], SIGMA**2 * PIXEL**2, rtol=0.03)
    assert found.std_hu == pytest.approx(SIGMA, rel=0.01)
    assert found.mean_per_mm == pytest.approx(0.5 / PIXEL / 2, rel=0.1)


def test_the_spectrums_integral_is_the_variance() -> None:
    regions = white(20) * np.linspace(0.5, 2, 20)[:, None, None]
    step = 1 / (32 * PIXEL)
    assert power_map(regions, PIXEL).sum() * step**2 == pytest.approx(np.mean(detrended(regions) ** 2), rel=1e-12)


def test_noise_behind_a_gaussian_filter_has_the_filters_squared_transfer() -> None:
    size, width = 1024, 1.2  # pixels
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    transfer = np.exp(-2 * (np.pi * width * frequency) ** 2)
    field = np.fft.ifft2(np.fft.fft2(np.random.default_rng(2).normal(0, SIGMA, (size, size))) * transfer).real
    regions = field.reshape(32, 32, 32, 32).swapaxes(1, 2).reshape(-1, 32, 32)
    found = spectrum_of([power_map(regions, PIXEL)], PIXEL, len(regions))
    expected = SIGMA**2 * PIXEL**2 * np.exp(-4 * (np.pi * width * PIXEL * np.array(found.frequencies_per_mm)) ** 2)
    strong = expected > 0.05 * expected[0]
    assert np.allclose(np.array(found.power_hu2_mm2)[strong][2:], expected[strong][2:], rtol=0.12)
    assert found.peak_per_mm < 0.2 / PIXEL
    assert found.std_hu == pytest.approx(field.std(), rel=0.05)


def test_shading_is_no_noise() -> None:
    rows, columns = np.mgrid[:32, :32] / 32.0
    shading = 30 * rows - 20 * columns + 15 * rows * columns + 25 * rows**2
    assert np.allclose(power_map(white(5) + shading, PIXEL), power_map(white(5), PIXEL), atol=1e-8)


def test_regions_that_are_not_square_are_refused() -> None:
    with pytest.raises(DomainError, match="square"):
        power_map(np.zeros((3, 8, 9)), PIXEL)


def test_noise_is_measured_where_the_reference_is_homogeneous() -> None:
    slice_hu = body(noise=10)
    slice_hu[90:130, 90:130] += np.where(np.arange(40) % 8 < 4, 80, 0)  # bars that are still soft tissue
    regions = homogeneous_regions(slice_hu, most=20)
    assert len(regions) >= 3
    for one in regions:
        part = slice_hu[one.row : one.row + 32, one.column : one.column + 32]
        assert part.min() > -150
        assert part.std() < 12, "bars or border in a region"
    corners = [(one.row, one.column) for one in regions]
    assert all(abs(a[0] - b[0]) >= 32 or abs(a[1] - b[1]) >= 32 for i, a in enumerate(corners) for b in corners[:i]), (
        "regions overlap"
    )


def test_padding_is_not_measured() -> None:
    slice_hu, padding = body(noise=10), np.zeros((256, 256), dtype=bool)
    padding[:, 128:] = True
    found = homogeneous_regions(slice_hu, padding=padding)
    assert found
    assert all(one.column + one.size <= 128 for one in found)


def test_air_has_no_homogeneous_region() -> None:
    assert homogeneous_regions(np.full((128, 128), -1000.0)) == ()
    assert homogeneous_regions(np.full((16, 16), 40.0)) == ()


def test_every_method_is_measured_in_the_references_regions() -> None:
    slices = [NoiseSlice(body(noise=10, seed=seed), {"half": 0.5 * body(noise=10, seed=seed)}) for seed in range(2)]
    found = noise_study(iter(slices), 0.8)
    assert found.slices == 2
    assert found.spectra["HR"].std_hu == pytest.approx(10, rel=0.1)
    assert found.spectra["half"].std_hu == pytest.approx(found.spectra["HR"].std_hu / 2, rel=1e-6)
    assert found.spectra["HR"].regions == sum(len(one) for one in found.regions)


def test_slices_without_a_homogeneous_region_have_no_spectrum() -> None:
    found = noise_study([NoiseSlice(np.full((64, 64), -1000.0), {})], 0.8)
    assert (found.slices, found.spectra) == (1, {})
