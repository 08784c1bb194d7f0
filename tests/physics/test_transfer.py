"""Transfer functions and detectability of systems whose answer is known in closed form."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from scipy.optimize import brentq

from ctsr.errors import DomainError
from ctsr.physics import (
    DiscTask,
    NoiseSpectrum,
    TransferFunction,
    detectability,
    edge_profile,
    soft_disc,
    transfer_function,
)
from ctsr.physics.transfer import falls_to

Image = npt.NDArray[np.float64]
PIXEL = 0.8
SHAPE = (192, 192)


def measured(
    system: Callable[[Image], Image], *, contrast: float = 100.0, noise: float = 0.0, count: int = 6
) -> TransferFunction:
    """The transfer function of discs of radius 48 pixels at random sub-pixel positions."""
    rng, profiles = np.random.default_rng(3), []
    for _ in range(count):
        center = (95.5 + rng.uniform(-0.5, 0.5), 95.5 + rng.uniform(-0.5, 0.5))
        image = system(40 + contrast * soft_disc(SHAPE, center, 48))
        profiles.append(edge_profile(image + rng.normal(0, noise, SHAPE), center, 48))
    return transfer_function(profiles, PIXEL)


def gaussian(sigma: float) -> Callable[[Image], Image]:
    return lambda image: ndimage.gaussian_filter(image, sigma, truncate=8)


def test_an_image_left_as_it_is_shows_its_pixels_sinc() -> None:
    found = measured(lambda image: image)
    expected = np.sinc(np.array(found.frequencies_per_mm) * PIXEL)
    assert np.allclose(found.values, expected, atol=0.02)
    # sinc(x) = ½ at x = 0.6034: beyond the Nyquist frequency, where only a profile finer than the pixels can see it.
    assert found.mtf50_per_mm == pytest.approx(0.6034 / PIXEL, rel=0.02)


@pytest.mark.parametrize("contrast", [-1000.0, 100.0])
@pytest.mark.parametrize("sigma", [1.5, 3.0])
def test_a_gaussian_blur_has_the_widths_of_its_closed_form(sigma: float, contrast: float) -> None:
    found = measured(gaussian(sigma), contrast=contrast)

    def expected(frequency: float) -> float:
        return float(np.sinc(frequency * PIXEL)) * math.exp(-2 * (math.pi * sigma * PIXEL * frequency) ** 2)

    for level, width in ((0.5, found.mtf50_per_mm), (0.1, found.mtf10_per_mm)):
        assert width == pytest.approx(brentq(lambda f, level=level: expected(f) - level, 0, 0.6 / PIXEL), rel=0.01)
    # exp(−2π²σ²f²) = ½ at f = √(ln 2 / 2) / (πσ), which a pixel much smaller than the blur hardly lowers.
    assert found.mtf50_per_mm == pytest.approx(math.sqrt(math.log(2) / 2) / (math.pi * sigma * PIXEL), rel=0.05)


def test_noise_shows_in_the_stated_error() -> None:
    calm, noisy = (measured(gaussian(1.5), noise=noise, count=8) for noise in (1.0, 20.0))
    assert calm.mtf50_error_per_mm is not None
    assert noisy.mtf50_error_per_mm is not None
    assert noisy.mtf50_error_per_mm > 5 * calm.mtf50_error_per_mm
    assert calm.mtf50_per_mm is not None
    assert noisy.mtf50_per_mm == pytest.approx(calm.mtf50_per_mm, abs=4 * noisy.mtf50_error_per_mm)


def test_one_image_has_no_error() -> None:
    assert measured(gaussian(1.5), count=1).mtf50_error_per_mm is None


def test_a_width_that_is_not_reached_is_none() -> None:
    assert falls_to(0.1, np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.4, 0.2])) is None
    assert falls_to(0.3, np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.4, 0.2])) == pytest.approx(0.75)


def test_an_edge_near_the_border_is_refused() -> None:
    with pytest.raises(DomainError, match="edge"):
        edge_profile(np.zeros(SHAPE), (50, 50), 48)
    with pytest.raises(DomainError, match="at least one"):
        transfer_function([], PIXEL)


def curves(blur: float, correlation: float, density: float) -> tuple[TransferFunction, NoiseSpectrum]:
    """exp(−2π²b²f²), and noise of `density`·exp(−4π²c²f²), up to 2/mm."""
    f = np.linspace(0, 2, 801)
    transfer = TransferFunction(tuple(f), tuple(np.exp(-2 * (np.pi * blur * f) ** 2)), None, None, None, None)
    power = density * np.exp(-4 * (np.pi * correlation * f) ** 2)
    return transfer, NoiseSpectrum(tuple(f[1:]), tuple(power[1:]), 1.0, 0.0, 0.0, 1)


@pytest.mark.parametrize(("blur", "correlation"), [(0.0, 0.0), (0.7, 0.0), (0.7, 0.5)])
def test_a_gaussian_task_is_detected_as_its_closed_form_says(blur: float, correlation: float) -> None:
    contrast, width, density = 20.0, 1.5, 60.0

    def task(f: Image) -> Image:
        """The transform of C·exp(−r²/2s²)."""
        return contrast * 2 * np.pi * width**2 * np.exp(-2 * (np.pi * width * f) ** 2)

    spread = width**2 + blur**2
    height = contrast * 2 * math.pi * width**2
    expected = math.sqrt(height**2 * (spread + correlation**2) / (4 * math.pi * density)) / spread
    found = detectability(task, *curves(blur, correlation, density))
    assert found == pytest.approx(expected, rel=1e-3)
    if not blur and not correlation:
        assert found == pytest.approx(contrast * width * math.sqrt(math.pi / density), rel=1e-3)


def test_a_disc_carries_its_contrast_times_its_area_and_vanishes_at_the_first_zero_of_j1() -> None:
    task = DiscTask(5, -30)
    at = task(np.array([0.0, 3.8317 / (math.pi * 5)]))
    assert at[0] == pytest.approx(30 * math.pi * 2.5**2)
    assert abs(at[1]) < 1e-3 * at[0]


def test_detectability_grows_with_contrast_and_has_no_limit_without_noise() -> None:
    transfer, noise = curves(0.7, 0.0, 60.0)
    faint, strong = (detectability(DiscTask(5, contrast), transfer, noise) for contrast in (10, 30))
    assert faint is not None
    assert strong == pytest.approx(3 * faint)
    assert detectability(DiscTask(5, 10), *curves(0.7, 0.0, 0.0)) is None
