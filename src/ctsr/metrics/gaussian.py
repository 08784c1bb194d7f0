"""Gaussian windows of structural metrics, applied in float64 in an order that no number of threads changes."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["filtered", "gaussian", "weighted_sum"]


def gaussian(window: int, sigma: float) -> list[float]:
    """The weights of a window of odd width along one axis, from its middle outwards; both sides together sum to 1.

    Args:
        window: pixels.
        sigma: standard deviation, pixels.
    """
    offsets = np.arange(window) - window // 2
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    return [float(w) for w in (weights / weights.sum())[window // 2 :]]


def filtered(image: Tensor, weights: list[float]) -> Tensor:
    """Along rows, then columns of ``(N, 1, H, W)``, where the window fits: one of 11 leaves H − 10 by W − 10."""
    for axis in (2, 3):
        image = weighted_sum(image, weights, axis)
    return image


def weighted_sum(image: Tensor, weights: list[float], axis: int) -> Tensor:
    """Along one axis of ``(N, 1, H, W)`` by a symmetric window, its weights from the middle outwards, where it fits."""
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
