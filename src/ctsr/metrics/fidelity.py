"""Pixelwise errors: MSE, RMSE, MAE, bias and PSNR.

All take ``(N, 1, H, W)`` and a reference of ``(N, 1, H, W)`` or ``(1, 1, H, W)``, in any linear unit, and return that
unit (MSE its square). NumPy sums in float64, in an order that depends on the image's size alone, so that the last digit
is the same on any number of threads.
"""

import math

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ctsr.metrics.value import NOT_FINITE, MetricValue, PerImage, as_pair, values

IDENTICAL = "identical"
"""Why two equal images have no PSNR: it would be infinite."""


def _difference(image: Tensor, reference: Tensor) -> npt.NDArray[np.float64]:
    """Image − reference, ``(N, H·W)``."""
    ours, theirs = as_pair(image, reference)
    return (ours - theirs).flatten(start_dim=1).numpy()


def mse(image: Tensor, reference: Tensor) -> PerImage:
    """Mean squared error."""
    return values(float(np.mean(np.square(row))) for row in _difference(image, reference))


def rmse(image: Tensor, reference: Tensor) -> PerImage:
    """Root of the mean squared error."""
    return values(float(np.sqrt(np.mean(np.square(row)))) for row in _difference(image, reference))


def mae(image: Tensor, reference: Tensor) -> PerImage:
    """Mean absolute error."""
    return values(float(np.mean(np.abs(row))) for row in _difference(image, reference))


def bias(image: Tensor, reference: Tensor) -> PerImage:
    """Mean of image − reference."""
    return values(float(np.mean(row)) for row in _difference(image, reference))


def psnr(image: Tensor, reference: Tensor, *, data_range: float = 1.0) -> PerImage:
    """Peak signal-to-noise ratio in dB: ``10·log₁₀(data_range² / MSE)``.

    The data range is given by the caller, never estimated from the pixels. Identical images have no finite PSNR: their
    value is None, with the reason `IDENTICAL`.
    """
    return tuple(_psnr(error.value, data_range) for error in mse(image, reference))


def _psnr(error: float | None, data_range: float) -> MetricValue:
    if error is None:
        return MetricValue(None, NOT_FINITE)
    if error == 0:
        return MetricValue(None, IDENTICAL)
    return MetricValue(10 * math.log10(data_range**2 / error))
