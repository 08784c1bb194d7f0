"""NumPy arrays and volumes as arguments and results."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ctsr.errors import DomainError
from ctsr.volume import Volume, VoxelsHU

ArrayHU: TypeAlias = npt.NDArray[np.number]
"""HU; axes (row, column) or (slice, row, column)."""
Spacing: TypeAlias = Sequence[float]
"""mm along each axis of the array it belongs to."""


@dataclass(frozen=True, eq=False)
class Given:
    """An argument as a volume, and the form in which its result goes back."""

    volume: Volume
    ndim: int | None
    """Axes of the array that was given; None for a volume."""

    def like(self, result: Volume) -> Volume | VoxelsHU:
        """A result in the form of the argument: a volume, or an array with as many axes."""
        if self.ndim is None:
            return result
        return result.hu[0] if self.ndim == 2 else result.hu


def given(image: Volume | ArrayHU, spacing: Spacing | None, *, needs_spacing: bool) -> Given:
    """Take a volume or an array.

    Args:
        image: HU; an array has the axes (row, column) or (slice, row, column).
        spacing: mm along each axis of an array; None for a volume, which has its own.
        needs_spacing: whether an array without `spacing` is an error; otherwise it is taken to be 1 mm.

    Raises:
        DomainError: another number of axes, NaN or infinity, a spacing that does not fit, or a `spacing` beside a
            volume.
    """
    if isinstance(image, Volume):
        if spacing is not None:
            raise DomainError("`spacing` is given for arrays only; a Volume has its own in `volume.grid.spacing`")
        return Given(image, None)
    array = np.asarray(image)
    if array.ndim not in {2, 3}:
        raise DomainError(f"an image has the axes (row, column) or (slice, row, column), got shape {array.shape}")
    if spacing is None:
        if needs_spacing:
            raise DomainError("an array needs `spacing`: mm along each of its axes, such as (0.8, 0.8)")
        spacing = (1.0,) * array.ndim
    if len(spacing) != array.ndim:
        raise DomainError(f"`spacing` needs one value in mm for each of {array.ndim} axes, got {tuple(spacing)}")
    voxels = array if array.ndim == 3 else array[None]
    slices_mm = float(spacing[0]) if array.ndim == 3 else 1.0
    return Given(Volume.from_array(voxels, (slices_mm, float(spacing[-2]), float(spacing[-1]))), array.ndim)
