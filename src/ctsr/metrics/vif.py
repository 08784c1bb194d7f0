"""Visual information fidelity (Sheikh and Bovik, IEEE TIP 15:430, 2006), of pixels as in its authors' `vifp_mscale`."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ctsr.metrics.gaussian import filtered, gaussian
from ctsr.metrics.value import MetricValue, PerImage, as_pair, values

__all__ = ["SMALLEST", "UNIFORM", "vif"]

WINDOWS = (17, 9, 5, 3)
"""Pixels of the Gaussian of each scale, from the finest to the coarsest; its standard deviation is a fifth of that."""
NOISE = 2.0
"""Variance of what a viewer's eye adds, in grey levels of 255 squared."""
TINY = 1e-10
"""Variance below which an area counts as flat."""
SMALLEST = 41
"""Pixels on a side below which the windows do not fit into their scales."""
UNIFORM = "uniform reference: it holds no information to be kept"


def vif(image: Tensor, reference: Tensor) -> PerImage:
    """How much of the reference's information the image still has: 1 for equal images, more where contrast was added.

    Args:
        image: ``(N, 1, H, W)`` on [0, 1].
        reference: ``(N, 1, H, W)``, or ``(1, 1, H, W)`` for the whole batch.
    """
    y, x = (one * 255 for one in as_pair(image, reference))
    if min(x.shape[-2:]) < SMALLEST:
        return (MetricValue(None, f"smaller than {SMALLEST}×{SMALLEST}"),) * len(y)
    kept, there = np.zeros(len(y)), np.zeros(len(y))
    for i, window in enumerate(WINDOWS):
        weights = gaussian(window, window / 5)
        if i:
            x, y = (filtered(one, weights)[..., ::2, ::2] for one in (x, y))
        kept_here, there_here = _information(x, y, weights)
        kept += _sums(kept_here)
        there += _sums(there_here)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = values(kept / there)
    return tuple(MetricValue(None, UNIFORM) if sum_ == 0 else one for one, sum_ in zip(found, there, strict=True))


def _information(x: Tensor, y: Tensor, weights: list[float]) -> tuple[Tensor, Tensor]:
    """Bits that image `y` keeps of reference `x`, and those that `x` has, at each place: both but for a factor."""
    mean_x, mean_y = filtered(x, weights), filtered(y, weights)
    variance_x = (filtered(x * x, weights) - mean_x * mean_x).clamp_min(0)
    variance_y = (filtered(y * y, weights) - mean_y * mean_y).clamp_min(0)
    covariance = filtered(x * y, weights) - mean_x * mean_y
    flat_x, flat_y = variance_x < TINY, variance_y < TINY
    gain = (covariance / (variance_x + TINY)).masked_fill(flat_x | flat_y, 0)
    rest = variance_y - gain * covariance  # what the gain does not explain
    rest = torch.where(flat_y, 0.0, torch.where(gain < 0, variance_y, rest)).clamp_min(TINY)
    gain = gain.clamp_min(0)
    variance_x = variance_x.masked_fill(flat_x, 0)
    return torch.log1p(gain * gain * variance_x / (rest + NOISE)), torch.log1p(variance_x / NOISE)


def _sums(information: Tensor) -> npt.NDArray[np.float64]:
    return np.array([float(np.sum(row)) for row in information.flatten(start_dim=1).numpy()])
