"""LPIPS and NIQE, computed here on fetched weights.

Learned perceptual image patch similarity (Zhang et al., CVPR 2018), version 0.1; natural image quality evaluator
(Mittal, Soundararajan and Bovik, IEEE SPL 20:209, 2013), as `pyiqa` computes it.
"""

from collections.abc import Mapping
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from scipy.special import gammaln
from torch import Tensor

from ctsr.errors import CheckpointError
from ctsr.losses import Trunk, as_imagenet
from ctsr.metrics.fidelity import NOT_FINITE, MetricValue, PerImage, gaussian, values, weighted_sum

LAYERS = {
    "alexnet": ("conv1", "conv2", "conv3", "conv4", "conv5"),
    "vgg16": ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"),
}
"""Trunk → layers whose activated features are compared."""
SMALLEST = 32
"""Pixels on a side below which the trunks' last features have no pixels."""
EPSILON = 1e-10
"""Keeps a feature vector of zeros from being divided by its length."""

Floats = npt.NDArray[np.float64]

BLOCK = 96
"""Pixels on a side of the blocks whose statistics are taken; pixels left over at the right and below are not used."""
FEATURES = 36
"""Statistics of a block: 18 on each of two scales."""
TOO_SMALL = f"smaller than NIQE's block of {BLOCK}×{BLOCK}"
TOO_FLAT = f"uniform: no block of {BLOCK}×{BLOCK} has texture"

WINDOW, SIGMA = 7, 7 / 6
"""The Gaussian of local mean and contrast, pixels."""
REACH = WINDOW // 2
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Rows and columns by which a block is rolled before it is multiplied by itself."""
HALVING = (0.43359375, 0.11328125, -0.03515625, -0.01171875)
"""Keys' bicubic kernel (a = −½) stretched to twice its width, at ½, 1½, 2½ and 3½ pixels; both sides sum to 1."""


class LPIPS:
    """Perceptual distance: 0 for equal images, larger where people see a larger difference.

    Args:
        trunk: AlexNet or VGG16.
        heads: `lin0` … `lin4`, the weight of each channel of each layer, as `ctsr.weights` gives them.

    Raises:
        CheckpointError: the heads belong to another trunk.
    """

    def __init__(self, trunk: Trunk, heads: Mapping[str, Tensor]) -> None:
        self.trunk = trunk
        self.layers = LAYERS[trunk.name]
        self.heads = [heads[f"lin{i}"] for i in range(len(self.layers))]
        channels = [trunk.channels(layer) for layer in self.layers]
        if [len(head) for head in self.heads] != channels:
            raise CheckpointError(f"these LPIPS heads are not for {trunk.name}: {[len(head) for head in self.heads]}")

    def __call__(self, image: Tensor, reference: Tensor) -> PerImage:
        """Distance of each image from its reference.

        Args:
            image: ``(N, 1, H, W)`` on [0, 1]; three channels are taken as colours.
            reference: the same, or one image for the whole batch.
        """
        if min(image.shape[-2:]) < SMALLEST:
            return (MetricValue(None, f"smaller than {SMALLEST}×{SMALLEST}"),) * len(image)
        wanted = self._unit_features(reference)
        # One at a time: VGG's features of a 512² slice take 250 MB.
        return values(self._distance(self._unit_features(single[None]), wanted, i) for i, single in enumerate(image))

    @torch.inference_mode()
    def _unit_features(self, image: Tensor) -> list[Tensor]:
        """Features of each layer, as vectors of length 1 at each pixel."""
        found = self.trunk(as_imagenet(image.float()), self.layers, activated=True)
        return [found[layer] / (found[layer].norm(dim=1, keepdim=True) + EPSILON) for layer in self.layers]

    @torch.inference_mode()
    def _distance(self, features: list[Tensor], wanted: list[Tensor], index: int) -> float:
        total = 0.0
        for head, ours, theirs in zip(self.heads, features, wanted, strict=True):
            reference = theirs if len(theirs) == 1 else theirs[index : index + 1]
            weighted = (ours - reference).square() * head.view(1, -1, 1, 1)
            total += float(weighted.sum(dim=1).mean(dtype=torch.float64))
        return total


class NIQE:
    """No-reference metric: the distance of local image statistics from those of natural photographs.

    0 is natural, higher is worse. The images are scaled to 0 … 255 and rounded, as in the reference implementations,
    whose statistics are of 8-bit photographs. A flat block (air, clipped) keeps the first value of the table that its
    shape is looked up in, as in the original: much air raises NIQE, however good the rest is.

    Args:
        model: `mean` ``(36,)`` and `covariance` ``(36, 36)`` of the features of pristine photographs, float64, as
            `ctsr.weights` gives them.

    Raises:
        CheckpointError: the model has other shapes.
    """

    def __init__(self, model: Mapping[str, Tensor]) -> None:
        shapes = {key: tuple(value.shape) for key, value in model.items()}
        if shapes != {"mean": (FEATURES,), "covariance": (FEATURES, FEATURES)}:
            raise CheckpointError(f"this is not a model of NIQE: it holds {shapes}")
        self.mean = model["mean"].double().numpy()
        self.covariance = model["covariance"].double().numpy()

    def __call__(self, image: Tensor, reference: Tensor) -> PerImage:  # noqa: ARG002
        """NIQE of each image.

        Args:
            image: ``(N, 1, H, W)`` on [0, 1].
            reference: not used; part of the signature that all metrics share.
        """
        if min(image.shape[-2:]) < BLOCK:
            return (MetricValue(None, TOO_SMALL),) * len(image)
        return tuple(self._score(single[None]) for single in image.detach().cpu().double())

    def _score(self, image: Tensor) -> MetricValue:
        if not bool(image.isfinite().all()):
            return MetricValue(None, NOT_FINITE)
        features = block_features(image)
        textured = features[np.isfinite(features).all(axis=1)]
        if not len(textured):
            return MetricValue(None, TOO_FLAT)
        # As in the original: a flat block still takes part in the mean of the statistics it has.
        difference = self.mean - np.nanmean(features, axis=0)
        spread = np.cov(textured, rowvar=False) if len(textured) > 1 else 0.0
        pooled = (self.covariance + spread) / 2
        return MetricValue(float(np.sqrt(difference @ np.linalg.pinv(pooled) @ difference)))


def block_features(image: Tensor) -> Floats:
    """Compute the statistics of each block.

    Args:
        image: ``(1, 1, H, W)`` on [0, 1], float64, at least one block large.

    Returns:
        ``(blocks, 36)``, NaN where a block is too flat to have the statistic.
    """
    rows, columns = image.shape[-2] // BLOCK, image.shape[-1] // BLOCK
    grey = (image[..., : rows * BLOCK, : columns * BLOCK] * 255).round()
    return np.hstack([_scale_features(scaled, rows, columns) for scaled in (grey, _halved(grey))])


def _scale_features(grey: Tensor, rows: int, columns: int) -> Floats:
    contrast = _normalised(grey)
    side = contrast.shape[0] // rows
    blocks = contrast.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(rows * columns, side, side)
    shape, left, right = _fitted(blocks)
    features = [shape, (left + right) / 2]
    for shift in NEIGHBOURS:
        shape, left, right = _fitted(blocks * np.roll(blocks, shift, axis=(1, 2)))
        mean = (right - left) * np.exp(gammaln(2 / shape) - gammaln(1 / shape))
        features += [shape, mean, left, right]
    return np.stack(features, axis=1)


def _normalised(grey: Tensor) -> Floats:
    """Each pixel less its local mean, over its local contrast plus one grey level."""
    padded = nnf.pad(grey, (REACH,) * 4, mode="replicate")
    mean = _smoothed(padded)
    contrast = (_smoothed(padded * padded) - mean * mean).abs().sqrt()
    return ((grey - mean) / (contrast + 1))[0, 0].numpy()


def _smoothed(padded: Tensor) -> Tensor:
    """The weighted mean around each pixel that is not padding."""
    size = padded.shape[2] - 2 * REACH
    total = torch.zeros_like(padded[..., REACH:-REACH, REACH:-REACH])
    for offset, weights in enumerate(_window()):
        rows = padded.narrow(2, REACH - offset, size)
        total += weighted_sum(rows + padded.narrow(2, REACH + offset, size) if offset else rows, weights, axis=3)
    return total


@cache
def _window() -> list[list[float]]:
    """One quadrant of the window, from its middle outwards, rounded to float32 as in pyiqa.

    The rounding decides the result in flat areas, where pixel − mean is nothing but rounding error and NIQE depends on
    its sign. Weights whose sum differs from 1 by 1e-7 give it one sign throughout; with float64 weights (the authors'
    MATLAB release) it depends on the order of additions, and so do the first decimals of NIQE.
    """
    quadrant = np.array(gaussian(WINDOW, SIGMA))
    return np.outer(quadrant, quadrant).astype(np.float32).astype(float).tolist()


def _fitted(blocks: Floats) -> tuple[Floats, Floats, Floats]:
    """Shape, left and right width of the asymmetric generalised Gaussian fitted to each block's values."""
    squares = blocks * blocks
    sums = squares.sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        below, above = blocks < 0, blocks > 0
        left = np.sqrt((squares * below).sum(axis=(1, 2)) / below.sum(axis=(1, 2)))
        right = np.sqrt((squares * above).sum(axis=(1, 2)) / above.sum(axis=(1, 2)))
        ratio = left / right
        moments = np.abs(blocks).sum(axis=(1, 2)) ** 2 / (sums * blocks[0].size)
        wanted = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes, found = _shapes()
    shape = shapes[_nearest(found, wanted)]
    width = np.exp((gammaln(1 / shape) - gammaln(3 / shape)) / 2)
    return shape, left * width, right * width


@cache
def _shapes() -> tuple[Floats, Floats]:
    """Shapes from 0.2 to 10, and the ratio of moments of each, which grows with the shape."""
    shapes = np.arange(200, 10001) / 1000
    return shapes, np.exp(2 * gammaln(2 / shapes) - gammaln(1 / shapes) - gammaln(3 / shapes))


def _nearest(ascending: Floats, wanted: Floats) -> npt.NDArray[np.intp]:
    """Index of the nearest value; NaN is nearest to the first, as in the original's search for a minimum."""
    after = np.searchsorted(ascending, np.nan_to_num(wanted, nan=-np.inf)).clip(1, len(ascending) - 1)
    return np.where(wanted - ascending[after - 1] > ascending[after] - wanted, after, after - 1)


def _halved(grey: Tensor) -> Tensor:
    """Half the size by MATLAB's antialiased bicubic ``imresize``; the sides are even."""
    for axis in (2, 3):
        grey = _halved_along(grey, axis)
    return grey


def _halved_along(grey: Tensor, axis: int) -> Tensor:
    reach, size = len(HALVING) - 1, grey.shape[axis]
    # MATLAB reflects at the edge of the outermost pixels, which count twice.
    before, after = grey.narrow(axis, 0, reach).flip(axis), grey.narrow(axis, size - reach, reach).flip(axis)
    padded = torch.cat((before, grey, after), dim=axis)
    total = torch.zeros_like(grey.narrow(axis, 0, size // 2))
    for offset, weight in enumerate(HALVING):
        for start in (reach - offset, reach + offset + 1):
            total += weight * padded.narrow(axis, start, size - 1).index_select(axis, torch.arange(0, size - 1, 2))
    return total
