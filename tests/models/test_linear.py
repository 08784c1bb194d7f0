"""The least-squares filter finds what is linear, and is the best of what is."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from ctsr.degrade import DegradationParams, degrade_hu
from ctsr.errors import DomainError
from ctsr.hu import DEFAULT_RANGE
from ctsr.infer import by_interpolation
from ctsr.models.interpolation import LinearFilter, fit_linear_filter

Image = npt.NDArray[np.float32]


def texture(seed: int, size: int = 192) -> Image:
    """Soft tissue with edges: thresholded and smooth noise, HU."""
    rng = np.random.default_rng(seed)
    rough = ndimage.gaussian_filter(rng.normal(size=(size, size)), 3)
    fine = ndimage.gaussian_filter(rng.normal(size=(size, size)), 1.2)
    return (80 * (rough > 0) + 300 * (rough > 0.12) + 200 * fine).astype(np.float32)


@pytest.mark.parametrize("scale", [2, 4])
def test_a_linear_map_is_found(scale: int) -> None:
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(scale, scale, 5, 5))
    weights /= weights.sum(axis=(2, 3), keepdims=True)
    known = LinearFilter(weights)
    images = [rng.normal(40, 200, (40, 57)) for _ in range(3)]
    found = fit_linear_filter([(lr, known(lr)) for lr in images], scale=scale, size=5)
    assert (found.scale, found.size) == (scale, 5)
    assert np.allclose(found.weights, weights, atol=1e-5)


@pytest.mark.parametrize(("noise", "share"), [(0.0, 0.7), (0.01, 0.9)])
def test_it_comes_closer_than_bicubic_to_what_was_blurred(noise: float, share: float) -> None:
    params = DegradationParams(blur_sigma=0.8, blur_kernel=5, noise_sigma=noise, dose=1.0)

    def pair(seed: int) -> tuple[Image, Image]:
        hr = texture(seed)
        lr = degrade_hu(hr, params, seed, scale=2, hu_range=DEFAULT_RANGE)
        return lr.astype(np.float32), hr

    found = fit_linear_filter(map(pair, (1, 2, 3)), scale=2)
    lr, hr = pair(4)
    inside = (slice(12, -12), slice(12, -12))

    def error(image: npt.NDArray[np.floating]) -> float:
        return float(np.mean((image - hr)[inside] ** 2))

    bicubic = error(by_interpolation("bicubic", 2, DEFAULT_RANGE)(lr))
    assert error(found(lr)) < share * bicubic


def test_a_uniform_image_stays_and_a_shift_of_hu_goes_through() -> None:
    found = fit_linear_filter([(texture(1, 64), np.kron(texture(1, 64), np.ones((2, 2))))], scale=2)
    assert np.allclose(found(np.full((9, 12), -712.5)), -712.5)
    lr = texture(2, 40)
    assert np.allclose(found(lr + 1000), found(lr) + 1000, atol=0.01)


def test_the_same_pairs_give_the_same_filter() -> None:
    pairs = [(texture(seed, 48), np.kron(texture(seed, 48), np.ones((2, 2)))) for seed in (1, 2)]
    first, second = fit_linear_filter(pairs, scale=2), fit_linear_filter(pairs, scale=2)
    assert np.array_equal(first.weights, second.weights)


def test_what_cannot_be_fitted_is_refused() -> None:
    image = np.zeros((8, 8))
    with pytest.raises(DomainError, match="at least one pair"):
        fit_linear_filter([], scale=2)
    with pytest.raises(DomainError, match="odd"):
        fit_linear_filter([(image, image)], scale=1, size=4)
    with pytest.raises(DomainError, match="2 times"):
        fit_linear_filter([(image, image)], scale=2)
