"""Structural similarity (Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 13:600, 2004), as scikit-image computes it."""

import numpy as np
from torch import Tensor

from ctsr.metrics.gaussian import filtered, gaussian
from ctsr.metrics.value import MetricValue, PerImage, as_pair, values

__all__ = ["WINDOW", "similarities", "ssim"]

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
    luminance, structure = similarities(x, y, data_range=data_range)
    return values(float(np.mean(row)) for row in (luminance * structure).flatten(start_dim=1).numpy())


def similarities(x: Tensor, y: Tensor, *, data_range: float = 1.0) -> tuple[Tensor, Tensor]:
    """The two factors of SSIM at each pixel whose window lies inside: luminance, and contrast with structure.

    Args:
        x: ``(N, 1, H, W)``, float64, at least `WINDOW` pixels on a side.
        y: the same, or one image for the whole batch.
        data_range: as of `ssim`.
    """
    weights = gaussian(WINDOW, SIGMA)
    mean_x, mean_y = filtered(x, weights), filtered(y, weights)
    variance_x = filtered(x * x, weights) - mean_x * mean_x
    variance_y = filtered(y * y, weights) - mean_y * mean_y
    covariance = filtered(x * y, weights) - mean_x * mean_y
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return luminance, structure
