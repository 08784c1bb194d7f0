"""HU as the 16-bit integers a DICOM file stores, and the rescale that turns them back."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctsr.volume import PaddingMask, VoxelsHU

PADDING_HU = -2048
"""What padding is stored as where no pixel of the slice is that low; below air, so that any viewer shows it black."""
INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, eq=False)
class StoredPixels:
    """Signed 16-bit values and what turns them back into HU: ``value · slope + intercept``."""

    values: npt.NDArray[np.int16]
    slope: int
    intercept: int
    padding: int | None
    """The stored value of padded pixels, which no other pixel has; None where nothing is padded."""


def to_stored(hu: VoxelsHU, padding: PaddingMask | None = None) -> StoredPixels:
    """HU, any shape → signed 16-bit values: whole HU with slope 1 and intercept 0 wherever they fit.

    Values that do not fit (unsigned 16-bit sources reach 64511 HU) get the smallest whole slope that covers them.

    Args:
        hu: padded pixels hold air, as `ctsr.exams.read_slice` leaves them.
        padding: True where there is nothing; None where every pixel counts.
    """
    low, high = int(np.rint(hu.min())), int(np.rint(hu.max()))
    slope, intercept = 1, 0
    scaled = hu
    if low < INT16.min or high > INT16.max:
        # One stored value, the lowest, is kept free for padding.
        slope = max(1, math.ceil((high - low) / (INT16.max - INT16.min - 1)))
        intercept = low - (INT16.min + 1) * slope
        scaled = (hu.astype(np.float64) - intercept) / slope
    values = np.rint(scaled).astype(np.int16)
    if padding is None or not padding.any():
        return StoredPixels(values, slope, intercept, None)
    free = intercept == 0 and low > PADDING_HU
    value = PADDING_HU if free else int(INT16.min)
    np.copyto(values, value, where=padding)
    return StoredPixels(values, slope, intercept, value)
