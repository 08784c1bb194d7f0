"""Tissues by their HU in the reference: where an error in HU is asked after."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["FEWEST_PIXELS", "TISSUES", "Tissue", "tissue_masks"]

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


TISSUES: Mapping[str, Tissue] = MappingProxyType(
    {
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
)
"""By name. Between them lie mixtures, which belong to none. Soft tissue includes enhanced blood and organs."""


def tissue_masks(reference_hu: npt.NDArray[np.floating]) -> dict[str, npt.NDArray[np.bool_]]:
    """Where each tissue is: thresholds on the smoothed reference, without the rim.

    Args:
        reference_hu: (rows, columns), HU.

    Returns:
        By name, (rows, columns) each; they do not overlap.
    """
    smooth = cast("npt.NDArray[np.floating]", ndimage.gaussian_filter(reference_hu, SMOOTHING, mode="nearest"))
    return {tissue.name: _without_rim((smooth >= tissue.low) & (smooth < tissue.high)) for tissue in TISSUES.values()}


def _without_rim(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Eroded by a square; the image's own border is no rim."""
    size = 2 * RIM + 1
    return np.asarray(ndimage.minimum_filter(mask, size, mode="nearest"), dtype=bool)
