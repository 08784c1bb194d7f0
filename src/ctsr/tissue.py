"""Tissues by their HU, and where the body is: the only definitions of either. NumPy and SciPy only."""

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ctsr.hu import AIR

SMOOTHING = 1.0
"""Pixels, standard deviation. Thresholds on the noisy reference itself would choose pixels by their noise, and so find
a bias in the most honest image."""
RIM = 1
"""Pixels taken off at every border: there, neither tissue is alone."""
FEWEST_PIXELS = 25
"""Fewer pixels than this are no tissue to take a mean over."""
CORE_SMOOTHING = 2.0
"""Pixels, standard deviation: what tells tissue from noise of 60 HU."""
SOFT_TISSUE = (-150.0, 200.0)
"""HU of fat, muscle, organs and blood with contrast agent together."""
AERATED_LUNG = (-980.0, -600.0)
"""HU of lung that a lesion can lie in."""
MASK_SMOOTHING = 2.0
"""Pixels, standard deviation, of `tissue_mask`."""
MASK_RIM = 2
"""Pixels by which `tissue_mask` shrinks: the rim of a tissue is partial volume."""

BLOCK = 8
"""Pixels along each side of a block of the body map."""
TABLE_PIXELS = 3
"""Half the thickness of what is taken for a table or a tube rather than for a part of the body."""
PART = 0.2
"""Of the largest piece: a smaller one is no part of the body."""
TISSUE_HU = -500.0
"""Half-way between air and water: a block above it holds mostly tissue."""


@dataclass(frozen=True)
class Tissue:
    """HU from `low` (included) to `high` (excluded)."""

    name: str
    low: float
    high: float

    @property
    def text(self) -> str:
        """For people: name and range."""
        if math.isinf(self.low):
            return f"{self.name}, below {self.high:g} HU"
        if math.isinf(self.high):
            return f"{self.name}, from {self.low:g} HU"
        return f"{self.name}, {self.low:g} … {self.high:g} HU"


TISSUES = {
    tissue.name: tissue
    for tissue in (
        Tissue("air", -math.inf, -950),
        Tissue("lung", -950, -500),
        Tissue("fat", -150, -30),
        Tissue("soft", -10, 150),
        Tissue("bone", 250, 2000),
        Tissue("metal", 2000, math.inf),
    )
}
"""By name. Between them lie mixtures, which belong to none. Soft tissue includes enhanced blood and organs."""
TISSUE_CORES = {
    tissue.name: tissue
    for tissue in (
        Tissue("lung", -950, -700),
        Tissue("fat", -140, -60),
        Tissue("soft", 20, 120),
        Tissue("bone", 250, 1500),
    )
}
"""By name, with narrower limits: where a bias of a few tenths of HU is to be measured, mixtures must not take part."""


def tissue_masks(reference_hu: npt.NDArray[np.floating]) -> dict[str, npt.NDArray[np.bool_]]:
    """Where each tissue is: thresholds on the smoothed reference, without the rim.

    Args:
        reference_hu: (rows, columns), HU.

    Returns:
        By name, (rows, columns) each; they do not overlap.
    """
    smooth = cast("npt.NDArray[np.floating]", ndimage.gaussian_filter(reference_hu, SMOOTHING, mode="nearest"))
    return {tissue.name: _without_rim((smooth >= tissue.low) & (smooth < tissue.high)) for tissue in TISSUES.values()}


def core_masks(reference_hu: npt.NDArray[np.floating]) -> dict[str, npt.NDArray[np.bool_]]:
    """The inside of each tissue of `TISSUE_CORES`, where its mean HU can be compared between two images.

    Args:
        reference_hu: (rows, columns), HU.

    Returns:
        By name, (rows, columns) each.
    """
    smooth = ndimage.gaussian_filter(reference_hu.astype(np.float64), CORE_SMOOTHING)
    inside = {core.name: (smooth >= core.low) & (smooth <= core.high) for core in TISSUE_CORES.values()}
    return {name: np.asarray(ndimage.binary_erosion(mask), dtype=bool) for name, mask in inside.items()}


def tissue_mask(hu: npt.NDArray[np.floating], low: float, high: float) -> npt.NDArray[np.bool_]:
    """Where a smoothed slice lies in ``low … high`` HU, without the rim of that tissue.

    Args:
        hu: (rows, columns).
        low: HU, excluded.
        high: HU, excluded.

    Returns:
        (rows, columns).
    """
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), MASK_SMOOTHING)
    inside = (smooth > low) & (smooth < high)
    return np.asarray(ndimage.binary_erosion(inside, iterations=MASK_RIM), dtype=bool)


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


def _without_rim(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Eroded by a square; the image's own border is no rim."""
    size = 2 * RIM + 1
    return np.asarray(ndimage.minimum_filter(mask, size, mode="nearest"), dtype=bool)
