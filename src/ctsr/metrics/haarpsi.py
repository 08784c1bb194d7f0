"""Haar wavelet-based perceptual similarity (Reisenhofer, Bosse, Kutyniok and Wiegand, SPIC 61:33, 2018)."""

import math

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from ctsr.metrics.value import MetricValue, PerImage, as_pair, values

__all__ = ["SMALLEST", "UNIFORM", "haarpsi"]

C, ALPHA = 30.0, 4.2
"""The authors' constants, fitted to people's judgements of photographs on 0 … 255."""
COMPARED, WEIGHING = (2, 4), 8
"""Pixels of the wavelets whose responses are compared, and of the one that says how much a place counts."""
SMALLEST = 2 * WEIGHING
"""Pixels on a side below which the largest wavelet has no place."""
UNIFORM = "uniform: neither image has an edge"


def haarpsi(image: Tensor, reference: Tensor) -> PerImage:
    """The similarity of edges, upright and level, weighted by how strong they are: 1 for equal images, 0 at the worst.

    Grey images, halved by the mean of 2×2 pixels first, as the authors do.

    Args:
        image: ``(N, 1, H, W)`` on [0, 1].
        reference: ``(N, 1, H, W)``, or ``(1, 1, H, W)`` for the whole batch.
    """
    x, y = as_pair(image, reference)
    if min(x.shape[-2:]) < SMALLEST:
        return (MetricValue(None, f"smaller than {SMALLEST}×{SMALLEST}"),) * len(x)
    flat = _spread(x) + _spread(y) == 0
    x, y = _halved(x * 255), _halved(y * 255)
    similar, weight = zip(*(_compared(x, y, axis) for axis in (2, 3)), strict=True)
    found = values(map(_weighted, torch.cat(similar, dim=1), torch.cat(weight, dim=1)))
    return tuple(MetricValue(None, UNIFORM) if none else one for none, one in zip(flat.tolist(), found, strict=True))


def _spread(image: Tensor) -> Tensor:
    """Between the lowest and the highest value of each image."""
    return image.amax(dim=(1, 2, 3)) - image.amin(dim=(1, 2, 3))


def _weighted(similar: Tensor, weight: Tensor) -> float:
    """Of one image: the weighted mean on the scale of the logistic function."""
    total = float(np.sum(weight.numpy()))
    mean = float(np.sum((torch.sigmoid(ALPHA * similar) * weight).numpy())) / total if total else math.nan
    return (math.log(mean / (1 - mean)) / ALPHA) ** 2


def _compared(x: Tensor, y: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Similarity and weight of each pixel, for edges across `axis`."""
    pairs = ((_response(x, width, axis), _response(y, width, axis)) for width in COMPARED)
    similar = [(2 * a * b + C) / (a * a + b * b + C) for a, b in pairs]
    weight = torch.maximum(_response(x, WEIGHING, axis), _response(y, WEIGHING, axis))
    return sum(similar[1:], similar[0]) / len(similar), weight


def _response(image: Tensor, width: int, axis: int) -> Tensor:
    """Strength of the Haar wavelet of `width` around each pixel; zero lies beyond the border."""
    half = width // 2
    padded = nnf.pad(image, (half - 1, half, half - 1, half))
    halves = _sums(padded, half, axis)
    size = image.shape[axis]
    difference = halves.narrow(axis, half, size) - halves.narrow(axis, 0, size)
    return _sums(difference, width, 5 - axis).abs() / width


def _sums(image: Tensor, width: int, axis: int) -> Tensor:
    """Of `width` neighbours along one axis, a power of 2: each step doubles how many."""
    step = 1
    while step < width:
        size = image.shape[axis] - step
        image = image.narrow(axis, 0, size) + image.narrow(axis, step, size)
        step *= 2
    return image


def _halved(image: Tensor) -> Tensor:
    rows, columns = image.shape[-2:]
    return nnf.avg_pool2d(nnf.pad(image, (0, columns % 2, 0, rows % 2)), 2)
