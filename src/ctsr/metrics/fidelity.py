"""Metrics of SR against HR: PSNR, errors and structural similarity, each a value or the reason why there is none.

All take ``(N, 1, H, W)`` and a reference of ``(N, 1, H, W)`` or ``(1, 1, H, W)``. Pixelwise errors are in the unit of
the images (MSE its square). Sums are in float64, in an order that depends on the image's size alone, so that the last
digit is the same on any number of threads: Gaussian windows are applied along one axis, then the other, as sums of
shifted images, element by element.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from torch import Tensor

from ctsr.errors import DomainError

IDENTICAL = "identical"
"""Why two equal images have no PSNR: it would be infinite."""

SSIM_WINDOW = 11
"""Pixels of SSIM's Gaussian window along each axis."""
SSIM_SIGMA = 1.5
"""Its standard deviation, pixels."""
K1, K2 = 0.01, 0.03
"""The constants of Wang et al., fractions of the data range."""

MS_SSIM_EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""From the finest scale to the coarsest; they sum to 1."""
MS_SSIM_SMALLEST = SSIM_WINDOW * 2 ** (len(MS_SSIM_EXPONENTS) - 1)
"""Pixels on a side below which SSIM's window does not fit into the coarsest scale."""

HAARPSI_C, HAARPSI_ALPHA = 30.0, 4.2
"""The authors' constants, fitted to human ratings of photographs on 0 … 255."""
COMPARED_WIDTHS, WEIGHING_WIDTH = (2, 4), 8
"""Pixels of the wavelets whose responses are compared, and of the one that weights each pixel."""
HAARPSI_SMALLEST = 2 * WEIGHING_WIDTH
"""Pixels on a side below which the largest wavelet does not fit."""
NO_EDGE = "uniform: neither image has an edge"

VIF_WINDOWS = (17, 9, 5, 3)
"""Pixels of the Gaussian of each scale, from the finest to the coarsest; its standard deviation is a fifth of that."""
VIF_NOISE = 2.0
"""Variance of the modelled visual noise, in squared grey levels of 255."""
VIF_TINY = 1e-10
"""Variance below which a neighbourhood counts as flat."""
VIF_SMALLEST = 41
"""Pixels on a side below which the windows do not fit into their scales."""
NO_INFORMATION = "uniform reference: it holds no information to be kept"

NOT_FINITE = "not finite"
"""The reason where an image, and so its metric, holds NaN or infinity."""


@dataclass(frozen=True)
class MetricValue:
    """A finite number, or None with the reason why it could not be computed: never NaN, never a 0 that means "none".

    Raises:
        DomainError: a number that is not finite; both or neither of value and reason.
    """

    value: float | None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise DomainError(f"a metric must be a finite number, or None with a reason, got {self.value}")
        if (self.value is None) != bool(self.reason):
            raise DomainError(f"a metric must have either a value or a reason, got {self.value} and {self.reason!r}")


PerImage: TypeAlias = tuple[MetricValue, ...]
"""One value for each image of a batch."""


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


def ssim(image: Tensor, reference: Tensor, *, data_range: float = 1.0) -> PerImage:
    """Mean SSIM over all pixels whose window lies inside the image.

    Equal to ``skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    win_size=11)`` to rounding. Source: Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 13:600, 2004.

    Args:
        image: ``(N, 1, H, W)``.
        reference: ``(N, 1, H, W)``, or ``(1, 1, H, W)`` for the whole batch.
        data_range: highest less lowest possible value; 1 for images on [0, 1].
    """
    x, y = as_pair(image, reference)
    if min(x.shape[-2:]) < SSIM_WINDOW:
        reason = f"smaller than SSIM's window of {SSIM_WINDOW}×{SSIM_WINDOW}"
        return (MetricValue(None, reason),) * x.shape[0]
    luminance, structure = _similarities(x, y, data_range=data_range)
    return values(float(np.mean(row)) for row in (luminance * structure).flatten(start_dim=1).numpy())


def ms_ssim(image: Tensor, reference: Tensor, *, data_range: float = 1.0) -> PerImage:
    """Product of contrast and structure on five scales and luminance on the coarsest; 1 for equal images.

    Source: Wang, Simoncelli and Bovik, Asilomar Conference 2003, vol. 2, p. 1398.

    Between scales the image is halved by the mean of 2×2 pixels; a side of odd length repeats its last pixel. A scale
    with a negative mean counts as 0, since it has no real power.

    Args:
        image: ``(N, 1, H, W)``.
        reference: ``(N, 1, H, W)``, or ``(1, 1, H, W)`` for the whole batch.
        data_range: highest less lowest possible value; 1 for images on [0, 1].
    """
    x, y = as_pair(image, reference)
    if min(x.shape[-2:]) < MS_SSIM_SMALLEST:
        reason = f"smaller than {MS_SSIM_SMALLEST}×{MS_SSIM_SMALLEST}, which five scales need"
        return (MetricValue(None, reason),) * x.shape[0]
    product = np.ones(x.shape[0])
    for i, weight in enumerate(MS_SSIM_EXPONENTS):
        luminance, structure = _similarities(x, y, data_range=data_range)
        compared = luminance * structure if i == len(MS_SSIM_EXPONENTS) - 1 else structure
        means = np.array([float(np.mean(row)) for row in compared.flatten(start_dim=1).numpy()])
        product *= np.maximum(means, 0) ** weight
        x, y = _halved_repeating(x), _halved_repeating(y)
    return values(product)


def haarpsi(image: Tensor, reference: Tensor) -> PerImage:
    """Haar wavelet-based perceptual similarity: 1 for equal images, 0 at the worst.

    Similarity of horizontal and vertical edges, weighted by their strength, on grey images that are first halved by the
    mean of 2×2 pixels. Source: Reisenhofer, Bosse, Kutyniok and Wiegand, SPIC 61:33, 2018.

    Args:
        image: ``(N, 1, H, W)`` on [0, 1].
        reference: ``(N, 1, H, W)``, or ``(1, 1, H, W)`` for the whole batch.
    """
    x, y = as_pair(image, reference)
    if min(x.shape[-2:]) < HAARPSI_SMALLEST:
        return (MetricValue(None, f"smaller than {HAARPSI_SMALLEST}×{HAARPSI_SMALLEST}"),) * len(x)
    flat = _spread(x) + _spread(y) == 0
    x, y = _halved_zero_padded(x * 255), _halved_zero_padded(y * 255)
    similar_rows, weight_rows = _compared(x, y, 2)
    similar_columns, weight_columns = _compared(x, y, 3)
    similar = torch.cat((similar_rows, similar_columns), dim=1)
    weight = torch.cat((weight_rows, weight_columns), dim=1)
    scores = zip(flat.tolist(), values(map(_pooled, similar, weight)), strict=True)
    return tuple(MetricValue(None, NO_EDGE) if is_flat else score for is_flat, score in scores)


def vif(image: Tensor, reference: Tensor) -> PerImage:
    """Visual information fidelity in the pixel domain: 1 for equal images, above 1 where contrast was added.

    Source: Sheikh and Bovik, IEEE TIP 15:430, 2006, computed as in the authors' `vifp_mscale`.

    Args:
        image: ``(N, 1, H, W)`` on [0, 1].
        reference: ``(N, 1, H, W)``, or ``(1, 1, H, W)`` for the whole batch.
    """
    ours, theirs = as_pair(image, reference)
    y, x = ours * 255, theirs * 255
    if min(x.shape[-2:]) < VIF_SMALLEST:
        return (MetricValue(None, f"smaller than {VIF_SMALLEST}×{VIF_SMALLEST}"),) * len(y)
    kept, available = np.zeros(len(y)), np.zeros(len(y))
    for i, window in enumerate(VIF_WINDOWS):
        weights = gaussian(window, window / 5)
        if i:
            x, y = filtered(x, weights)[..., ::2, ::2], filtered(y, weights)[..., ::2, ::2]
        kept_here, available_here = _information(x, y, weights)
        kept += _image_sums(kept_here)
        available += _image_sums(available_here)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = values(kept / available)
    scores = zip(ratios, available, strict=True)
    return tuple(MetricValue(None, NO_INFORMATION) if total == 0 else score for score, total in scores)


def gaussian(window: int, sigma: float) -> list[float]:
    """Weights of a Gaussian window of odd width along one axis, from its middle outwards; both sides sum to 1.

    Args:
        window: pixels.
        sigma: standard deviation, pixels.
    """
    offsets = np.arange(window) - window // 2
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    return [float(w) for w in (weights / weights.sum())[window // 2 :]]


def filtered(image: Tensor, weights: list[float]) -> Tensor:
    """Filter rows, then columns of ``(N, 1, H, W)`` where the window fits: one of 11 leaves (H − 10, W − 10)."""
    for axis in (2, 3):
        image = weighted_sum(image, weights, axis)
    return image


def weighted_sum(image: Tensor, weights: list[float], axis: int) -> Tensor:
    """Filter one axis of ``(N, 1, H, W)`` where a symmetric window fits; its weights run from the middle outwards."""
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


def values(numbers: Iterable[float]) -> PerImage:
    """Numbers as metric values; those that are not finite become None with the reason `NOT_FINITE`."""
    return tuple(MetricValue(n) if math.isfinite(n) else MetricValue(None, NOT_FINITE) for n in map(float, numbers))


def as_pair(image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 on the CPU, where sums have a fixed order; a reference of one image serves the whole batch.

    Args:
        image: ``(N, 1, H, W)``.
        reference: ``(N, 1, H, W)`` or ``(1, 1, H, W)``.

    Raises:
        DomainError: the shapes do not fit.
    """
    fits = image.ndim == 4 and image.shape[1:] == reference.shape[1:] and reference.shape[0] in (1, image.shape[0])
    if not fits or image.shape[1] != 1:
        raise DomainError(f"images must be (N, 1, H, W), got {tuple(image.shape)} against {tuple(reference.shape)}")
    return image.detach().cpu().double(), reference.detach().cpu().double()


def _difference(image: Tensor, reference: Tensor) -> npt.NDArray[np.float64]:
    """Image − reference, ``(N, H·W)``."""
    ours, theirs = as_pair(image, reference)
    return (ours - theirs).flatten(start_dim=1).numpy()


def _psnr(error: float | None, data_range: float) -> MetricValue:
    if error is None:
        return MetricValue(None, NOT_FINITE)
    if error == 0:
        return MetricValue(None, IDENTICAL)
    return MetricValue(10 * math.log10(data_range**2 / error))


def _similarities(x: Tensor, y: Tensor, *, data_range: float = 1.0) -> tuple[Tensor, Tensor]:
    """Luminance, and contrast with structure: the factors of SSIM at each pixel whose window lies inside.

    Args:
        x: ``(N, 1, H, W)``, float64, at least `SSIM_WINDOW` pixels on a side.
        y: the same, or one image for the whole batch.
        data_range: as of `ssim`.
    """
    weights = gaussian(SSIM_WINDOW, SSIM_SIGMA)
    mean_x, mean_y = filtered(x, weights), filtered(y, weights)
    variance_x = filtered(x * x, weights) - mean_x * mean_x
    variance_y = filtered(y * y, weights) - mean_y * mean_y
    covariance = filtered(x * y, weights) - mean_x * mean_y
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return luminance, structure


def _halved_repeating(image: Tensor) -> Tensor:
    rows, columns = image.shape[-2:]
    padded = nnf.pad(image, (0, columns % 2, 0, rows % 2), mode="replicate")
    return nnf.avg_pool2d(padded, 2)


def _spread(image: Tensor) -> Tensor:
    """Difference of the highest and the lowest value of each image."""
    return image.amax(dim=(1, 2, 3)) - image.amin(dim=(1, 2, 3))


def _pooled(similar: Tensor, weight: Tensor) -> float:
    """Score of one image: the weighted mean, taken on the scale of the logistic function."""
    total = float(np.sum(weight.numpy()))
    mean = float(np.sum((torch.sigmoid(HAARPSI_ALPHA * similar) * weight).numpy())) / total if total else math.nan
    return (math.log(mean / (1 - mean)) / HAARPSI_ALPHA) ** 2


def _compared(x: Tensor, y: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Similarity and weight of each pixel for edges across `axis`."""
    pairs = ((_response(x, width, axis), _response(y, width, axis)) for width in COMPARED_WIDTHS)
    similar = [(2 * a * b + HAARPSI_C) / (a * a + b * b + HAARPSI_C) for a, b in pairs]
    weight = torch.maximum(_response(x, WEIGHING_WIDTH, axis), _response(y, WEIGHING_WIDTH, axis))
    return sum(similar[1:], similar[0]) / len(similar), weight


def _response(image: Tensor, width: int, axis: int) -> Tensor:
    """Magnitude of the Haar wavelet response of `width` at each pixel, with zero padding."""
    half = width // 2
    padded = nnf.pad(image, (half - 1, half, half - 1, half))
    halves = _neighbour_sums(padded, half, axis)
    size = image.shape[axis]
    difference = halves.narrow(axis, half, size) - halves.narrow(axis, 0, size)
    return _neighbour_sums(difference, width, 5 - axis).abs() / width


def _neighbour_sums(image: Tensor, width: int, axis: int) -> Tensor:
    """Sums of `width` neighbours along one axis; `width` is a power of 2, and each step doubles the number summed."""
    step = 1
    while step < width:
        size = image.shape[axis] - step
        image = image.narrow(axis, 0, size) + image.narrow(axis, step, size)
        step *= 2
    return image


def _halved_zero_padded(image: Tensor) -> Tensor:
    rows, columns = image.shape[-2:]
    return nnf.avg_pool2d(nnf.pad(image, (0, columns % 2, 0, rows % 2)), 2)


def _information(x: Tensor, y: Tensor, weights: list[float]) -> tuple[Tensor, Tensor]:
    """Information that `y` keeps of reference `x`, and that of `x` itself, at each pixel; both up to one factor."""
    mean_x, mean_y = filtered(x, weights), filtered(y, weights)
    variance_x = (filtered(x * x, weights) - mean_x * mean_x).clamp_min(0)
    variance_y = (filtered(y * y, weights) - mean_y * mean_y).clamp_min(0)
    covariance = filtered(x * y, weights) - mean_x * mean_y
    flat_x, flat_y = variance_x < VIF_TINY, variance_y < VIF_TINY
    gain = (covariance / (variance_x + VIF_TINY)).masked_fill(flat_x | flat_y, 0)
    rest = variance_y - gain * covariance  # the part that the gain does not explain
    rest = torch.where(flat_y, 0.0, torch.where(gain < 0, variance_y, rest)).clamp_min(VIF_TINY)
    gain = gain.clamp_min(0)
    variance_x = variance_x.masked_fill(flat_x, 0)
    return torch.log1p(gain * gain * variance_x / (rest + VIF_NOISE)), torch.log1p(variance_x / VIF_NOISE)


def _image_sums(information: Tensor) -> npt.NDArray[np.float64]:
    return np.array([float(np.sum(row)) for row in information.flatten(start_dim=1).numpy()])
