"""Multi-scale structural similarity (Wang, Simoncelli and Bovik, Asilomar Conference 2003, vol. 2, p. 1398)."""

import numpy as np
import torch.nn.functional as nnf
from torch import Tensor

from ctsr.metrics.ssim import WINDOW, similarities
from ctsr.metrics.value import MetricValue, PerImage, as_pair, values

__all__ = ["SMALLEST", "ms_ssim"]

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents from the finest scale to the coarsest; they sum to 1."""
SMALLEST = WINDOW * 2 ** (len(WEIGHTS) - 1)
"""Pixels on a side below which SSIM's window does not fit into the coarsest scale."""


def ms_ssim(image: Tensor, reference: Tensor, *, data_range: float = 1.0) -> PerImage:
    """Contrast and structure of five scales, and luminance of the coarsest, multiplied; 1 for equal images.

    Between scales the image is halved by the mean of 2×2 pixels; a side of odd length repeats its last pixel. A scale
    whose structure is opposite on the mean counts as 0, as it has no real power.

    Args:
        image: ``(N, 1, H, W)``.
        reference: ``(N, 1, H, W)``, or ``(1, 1, H, W)`` for the whole batch.
        data_range: what separates the lowest from the highest possible value; 1 for images on [0, 1].
    """
    x, y = as_pair(image, reference)
    if min(x.shape[-2:]) < SMALLEST:
        return (MetricValue(None, f"smaller than {SMALLEST}×{SMALLEST}, which five scales need"),) * x.shape[0]
    product = np.ones(x.shape[0])
    for i, weight in enumerate(WEIGHTS):
        luminance, structure = similarities(x, y, data_range=data_range)
        compared = luminance * structure if i == len(WEIGHTS) - 1 else structure
        means = np.array([float(np.mean(row)) for row in compared.flatten(start_dim=1).numpy()])
        product *= np.maximum(means, 0) ** weight
        x, y = _halved(x), _halved(y)
    return values(product)


def _halved(image: Tensor) -> Tensor:
    rows, columns = image.shape[-2:]
    padded = nnf.pad(image, (0, columns % 2, 0, rows % 2), mode="replicate")
    return nnf.avg_pool2d(padded, 2)
