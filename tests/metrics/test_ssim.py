import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from ctsr.metrics import MetricValue, ssim


def by_skimage(image: np.ndarray, reference: np.ndarray, data_range: float = 1.0) -> float:
    return float(
        structural_similarity(
            image,
            reference,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            win_size=11,
            data_range=data_range,
        )
    )


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image)[None, None]


@pytest.mark.parametrize("shape", [(11, 11), (12, 40), (57, 11), (64, 65), (200, 180)])
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.3])
def test_ssim_equals_that_of_scikit_image(shape: tuple[int, int], noise: float) -> None:
    rng = np.random.default_rng(hash(shape) % 1000)
    reference = np.clip(rng.normal(0.5, 0.2, shape), 0, 1)
    image = np.clip(reference + noise * rng.standard_normal(shape), 0, 1)
    found = ssim(tensor(image), tensor(reference))[0].value
    assert found == pytest.approx(by_skimage(image, reference), abs=1e-9)


def test_ssim_in_float32_images_still_equals_scikit_image() -> None:
    rng = np.random.default_rng(5)
    reference = rng.random((90, 80)).astype(np.float32)
    image = np.clip(reference + 0.05 * rng.standard_normal((90, 80)), 0, 1).astype(np.float32)
    wanted = by_skimage(image.astype(np.float64), reference.astype(np.float64))
    assert ssim(tensor(image), tensor(reference))[0].value == pytest.approx(wanted, abs=1e-6)


def test_ssim_of_flat_images_is_that_of_scikit_image() -> None:
    """A uniform slice has no variance: the constants of the formula keep it finite."""
    low, high = np.full((20, 20), 0.1), np.full((20, 20), 0.6)
    assert ssim(tensor(low), tensor(low))[0].value == pytest.approx(1.0, abs=1e-12)
    assert ssim(tensor(low), tensor(high))[0].value == pytest.approx(by_skimage(low, high), abs=1e-12)


def test_ssim_follows_the_data_range_it_is_told() -> None:
    rng = np.random.default_rng(6)
    reference, image = rng.random((2, 40, 40)) * 400
    found = ssim(tensor(image), tensor(reference), data_range=400)[0].value
    assert found == pytest.approx(by_skimage(image, reference, 400), abs=1e-9)


@pytest.mark.parametrize("shape", [(10, 30), (30, 10), (1, 1)])
def test_an_image_smaller_than_the_window_has_no_ssim_and_says_why(shape: tuple[int, int]) -> None:
    image = tensor(np.zeros(shape))
    assert ssim(image, image) == (MetricValue(None, "smaller than SSIM's window of 11×11"),)
