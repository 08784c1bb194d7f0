"""Blur and downsampling as one row of weights, applied along each axis with a stride."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Taps:
    """LR pixel j is ``Σ weights[i] · hr[scale·j + first + i]`` along one axis; the weights sum to 1."""

    first: int
    weights: Weights


def blur_taps(sigma: float, kernel: int, scale: int) -> Taps:
    """A normalised Gaussian of `kernel` pixels followed by bilinear sampling between the cell's two middle pixels.

    LR pixel j lies at HR coordinate (j + ½)·scale − ½: for an even scale half-way between two HR pixels, so the
    bilinear sample is their mean, and both steps together are the Gaussian convolved with (½, ½).
    """
    radius = kernel // 2
    return Taps(first=scale // 2 - 1 - radius, weights=np.convolve(_gaussian(sigma, radius), [0.5, 0.5]))


def area_taps(sigma: float, kernel: int, scale: int) -> Taps:
    """A normalised Gaussian of `kernel` pixels followed by the mean over the cell's `scale` pixels."""
    radius = kernel // 2
    return Taps(first=-radius, weights=np.convolve(_gaussian(sigma, radius), np.full(scale, 1 / scale)))


def antialiased_taps(scale: int) -> Taps:
    """Bilinear downsampling whose triangle is as wide as the scale: the low-pass that `antialias=True` stands for."""
    offsets = np.arange(-(scale // 2), scale + scale // 2)
    triangle = np.maximum(0.0, 1 - np.abs(offsets - (scale - 1) / 2) / scale)
    return Taps(first=int(offsets[0]), weights=triangle / triangle.sum())


def _gaussian(sigma: float, radius: int) -> Weights:
    """``2·radius + 1`` samples that sum to 1."""
    if radius == 0:
        return np.ones(1)
    offsets = np.arange(-radius, radius + 1)
    gaussian = np.exp(-0.5 * (offsets / sigma) ** 2)
    return gaussian / gaussian.sum()


def reflected(start: int, stop: int, size: int) -> npt.NDArray[np.int64]:
    """Indices ``start … stop`` of an axis of `size` pixels, continued beyond its ends by reflection.

    The border pixel itself is not repeated: −1 → 1, size → size − 2, and so on however far out.
    """
    if size == 1:
        return np.zeros(stop - start, dtype=np.int64)
    period = 2 * (size - 1)
    folded = np.abs(np.arange(start, stop)) % period
    return np.minimum(folded, period - folded)
