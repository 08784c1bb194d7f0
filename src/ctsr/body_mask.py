"""Where the patient is in a slice: for drawing patches from the body rather than from the air around it."""

from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ctsr.hu import AIR

BLOCK = 8
"""Pixels along each side of a block of the body map."""
TABLE_PIXELS = 3
"""Half the thickness of what is taken for a table or a tube rather than for a part of the body."""
PART = 0.2
"""Of the largest piece: a smaller one is no part of the body."""
TISSUE_HU = -500.0
"""Half-way between air and water: a block above it holds mostly tissue."""


def body_blocks(hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
    """The body in blocks of 8×8 pixels: tissue, with the lungs it encloses, the largest piece only.

    Args:
        hu: (rows, columns), HU; values below air count as air.

    Returns:
        (⌈rows/8⌉, ⌈columns/8⌉), True in the body; all True where nothing is tissue, so that there is always
        a place to draw from.
    """
    tissue = tissue_blocks(hu)
    # Opening parts the body from the table it lies on, and drops specks.
    opened = ndimage.binary_opening(tissue, iterations=1)
    labels, count = cast("tuple[npt.NDArray[np.int32], int]", ndimage.label(opened))
    if count == 0:
        return tissue if tissue.any() else np.ones_like(tissue)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax(), dtype=bool)


def body_mask(hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
    """The body pixel by pixel: tissue without table and specks, and whatever it encloses.

    Legs or an arm beside the trunk belong to it; a lung that the image's edge cuts open is not enclosed.

    Args:
        hu: (rows, columns), HU; values below air count as air.

    Returns:
        (rows, columns); all False where nothing is tissue.
    """
    tissue = ndimage.binary_opening(hu > TISSUE_HU, iterations=TABLE_PIXELS)
    labels, count = cast("tuple[npt.NDArray[np.int32], int]", ndimage.label(tissue))
    if count == 0:
        return np.zeros(hu.shape, dtype=bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    large = np.flatnonzero(sizes >= PART * sizes.max())
    return np.asarray(ndimage.binary_fill_holes(np.isin(labels, large)), dtype=bool)


def tissue_blocks(hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
    """Blocks of 8×8 pixels that hold mostly tissue or are enclosed by such; arms, specks and the table among them.

    Args:
        hu: (rows, columns), HU; values below air count as air.

    Returns:
        (⌈rows/8⌉, ⌈columns/8⌉).
    """
    rows, columns = hu.shape
    padded = np.pad(np.maximum(hu, AIR), ((0, -rows % BLOCK), (0, -columns % BLOCK)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // BLOCK, BLOCK, -1, BLOCK).mean(axis=(1, 3))
    return np.asarray(ndimage.binary_fill_holes(blocks > TISSUE_HU), dtype=bool)
