"""Structural similarity (Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 13:600, 2004), as scikit-image computes it."""

import numpy as np
import torch
from torch import Tensor

from ctsr.metrics.value import MetricValue, PerImage, as_pair, values

__all__ = ["WINDOW", "ssim"]

WINDOW = 11
"""Pixels of the Gaussian window along each axis."""
SIGMA = 1.5
"""Its standard deviation, pixels."""
K1, K2 = 0.01, 0.03


def ssim(image: Tensor, reference: Tensor, *, data_range: float = 1.0) -> PerImage:
    """Mean SSIM over all pixels whose window lies inside the image.

    Equal to ``skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    win_size=11)`` to rounding. The Gaussian is applied along one axis, then the other, as a sum of shifted images
    in float64: element by element, so the number of threads changes no digit.

    Args:
        image: ``(N, 1, H, W)``.
        reference: ``(N, 1, H, W)``, or ``(1, 1, H, W)`` for the whole batch.
        data_range: what separates the lowest from the highest possible value; 1 for images on [0, 1].
    """
    x, y = as_pair(image, reference)
    if min(x.shape[-2:]) < WINDOW:
        reason = f"smaller than SSIM's window of {WINDOW}×{WINDOW}"
        return (MetricValue(None, reason),) * x.shape[0]
    weights = _gaussian()
    mean_x, mean_y = _filtered(x, weights), _filtered(y, weights)
    variance_x = _filtered(x * x, weights) - mean_x * mean_x
    variance_y = _filtered(y * y, weights) - mean_y * mean_y
    covariance = _filtered(x * y, weights) - mean_x * mean_y
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return values(float(np.mean(row)) for row in (luminance * structure).flatten(start_dim=1).numpy())


def _gaussian() -> list[float]:
    """The window's weights from its middle outwards."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    return [float(w) for w in (weights / weights.sum())[WINDOW // 2 :]]


def _filtered(image: Tensor, weights: list[float]) -> Tensor:
    """Along rows, then columns, where the window fits: ``(N, 1, H − 10, W − 10)``."""
    for axis in (2, 3):
        image = _weighted_sum(image, weights, axis)
    return image


def _weighted_sum(image: Tensor, weights: list[float], axis: int) -> Tensor:
    reach = len(weights) - 1
    size = image.shape[axis] - 2 * reach
    total = image.narrow(axis, reach, size) * weights[0]
    pair = torch.empty_like(total)
    for offset, weight in enumerate(weights[1:], start=1):
        # The window is symmetric: adding its two sides first halves the multiplications.
        before, after = image.narrow(axis, reach - offset, size), image.narrow(axis, reach + offset, size)
        torch.add(before, after, out=pair)
        total += pair.mul_(weight)
    return total
