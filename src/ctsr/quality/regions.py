"""Where a slice is homogeneous enough that what varies in it is noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ctsr.hu import FloatArray
from ctsr.tissue import MASK_RIM, SOFT_TISSUE, tissue_mask

SMOOTH = 2.0
"""Standard deviation in pixels of the Gaussian that parts structure from noise."""
STRIDE = 4
"""Pixels between the regions that are tried."""
STRUCTURE = 12.0
"""HU: a region whose smoothed values spread further holds structure, not noise alone."""


@dataclass(frozen=True)
class Region:
    """A square of a slice, pixels."""

    row: int
    column: int
    size: int


def homogeneous_regions(
    reference: FloatArray, *, size: int = 32, most: int = 6, padding: npt.NDArray[np.bool_] | None = None
) -> tuple[Region, ...]:
    """Squares of soft tissue with the least structure, best first; they do not overlap.

    Structure is the standard deviation of the smoothed slice, so a noisy slice is not taken for a structured one; every
    smoothed pixel of a region is soft tissue.

    Args:
        reference: (rows, columns), HU: where regions lie is decided on the reference alone, for all methods.
        size: pixels along each side.
        most: how many at most.
        padding: True where nothing was reconstructed.

    Returns:
        None to `most` regions: there need not be any.
    """
    if min(reference.shape) < size:
        return ()
    mask = tissue_mask(reference, *SOFT_TISSUE)
    if padding is not None:
        mask &= np.asarray(ndimage.binary_erosion(~padding, iterations=MASK_RIM), dtype=bool)
    smooth = ndimage.gaussian_filter(reference.astype(np.float64), SMOOTH)
    spread = np.sqrt(np.maximum(square_means(smooth**2, size) - square_means(smooth, size) ** 2, 0))
    # Sums of exact 0s and 1s in float64, so "all of them" is no matter of rounding.
    spread[square_means(mask.astype(np.float64), size) < 1 - 0.5 / size**2] = np.inf
    return _best(spread[::STRIDE, ::STRIDE], size, most)


def cut(image: FloatArray, regions: Sequence[Region]) -> FloatArray:
    """The regions of an image: (n, size, size)."""
    return np.stack([image[one.row : one.row + one.size, one.column : one.column + one.size] for one in regions])


def square_means(image: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Mean of the square that begins at each pixel, for all squares inside the image."""
    sums = np.pad(image, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    return (sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]) / size**2


def _best(spread: npt.NDArray[np.float64], size: int, most: int) -> tuple[Region, ...]:
    """The places with the least spread, one after the other, each at least `size` pixels from those before."""
    spread, apart, chosen = spread.copy(), -(-size // STRIDE), list[Region]()
    while len(chosen) < most and spread.size and spread.min() <= STRUCTURE:
        row, column = (int(i) for i in np.unravel_index(int(spread.argmin()), spread.shape))
        chosen.append(Region(row * STRIDE, column * STRIDE, size))
        top, left = max(0, row - apart + 1), max(0, column - apart + 1)
        spread[top : row + apart, left : column + apart] = np.inf
    return tuple(chosen)
