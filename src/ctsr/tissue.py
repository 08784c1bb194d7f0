"""Tissues by their HU: the only place that says which HU are what. NumPy and SciPy only."""

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage

SMOOTHING = 1.0
"""Pixels, standard deviation. Thresholds on the noisy reference itself would choose pixels by their noise, and so find
a bias in the most honest image."""
RIM = 1
"""Pixels taken off at every border: there, neither tissue is alone."""
FEWEST_PIXELS = 25
"""Fewer pixels than this are no tissue to take a mean over."""


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


def _without_rim(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Eroded by a square; the image's own border is no rim."""
    size = 2 * RIM + 1
    return np.asarray(ndimage.minimum_filter(mask, size, mode="nearest"), dtype=bool)
