"""Kernels: normalised, centred on the LR pixel they make, and continued by reflection."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctsr.degrade import DegradationParams, Taps, antialiased_taps, area_taps, blur_taps, reflected


@given(st.integers(1, 12), st.integers(-40, 40), st.integers(0, 60))
def test_reflection_is_that_of_numpy_however_far_out(size: int, start: int, length: int) -> None:
    padded = np.pad(np.arange(size), (40, 100), mode="reflect")
    assert reflected(start, start + length, size).tolist() == padded[start + 40 : start + length + 40].tolist()


def center(taps: Taps) -> float:
    """Where the mean of the weights lies, in HR pixels from the first of LR pixel 0."""
    return float(np.sum(taps.weights * (taps.first + np.arange(len(taps.weights)))))


@given(st.floats(0.1, 4), st.integers(0, 12), st.sampled_from([2, 4]))
def test_a_blur_keeps_the_mean_and_the_place(sigma: float, radius: int, scale: int) -> None:
    taps = blur_taps(sigma, 2 * radius + 1, scale)
    assert taps.weights.sum() == pytest.approx(1, abs=1e-12)
    assert center(taps) == pytest.approx((scale - 1) / 2, abs=1e-9)


@pytest.mark.parametrize("scale", [2, 4])
def test_a_soft_downsampling_keeps_the_mean_and_the_place(scale: int) -> None:
    taps = antialiased_taps(scale)
    assert taps.weights.sum() == pytest.approx(1, abs=1e-12)
    assert center(taps) == pytest.approx((scale - 1) / 2, abs=1e-12)
    assert np.count_nonzero(taps.weights) == 2 * scale


def variance(taps: Taps) -> float:
    """Of the weights about their mean, in HR pixels squared."""
    places = taps.first + np.arange(len(taps.weights))
    return float(np.sum(taps.weights * (places - center(taps)) ** 2))


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("sigma", [0.0, 0.8, 1.6])
def test_the_total_blur_of_a_downsampling_makes_up_for_the_other(scale: int, sigma: float) -> None:
    kernel = 21 if sigma else 1
    params = DegradationParams(sigma, kernel, 0, 1, downsampling="area")
    total = params.total_blur_sigma(scale)
    bilinear = variance(blur_taps(total, 21, scale)) if total else variance(blur_taps(0, 1, scale))
    assert variance(area_taps(sigma, kernel, scale)) == pytest.approx(bilinear, rel=0.01)
    assert DegradationParams(sigma, kernel, 0, 1).total_blur_sigma(scale) == sigma
