"""What `import ctsr` offers; here, what callers hand over, checked at one door."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ctsr.errors import DomainError, UsageError
from ctsr.padding import HUFinding, Verdict, check_hu, check_slices, slice_of
from ctsr.reporting import warn
from ctsr.volume import LARGEST_FIELD_MM, LARGEST_STEP_MM, PIXEL_MM, SMALLEST_STEP_MM, Volume, VoxelsHU

ArrayHU: TypeAlias = npt.NDArray[np.number]
"""HU; axes (row, column) or (slice, row, column)."""
Spacing: TypeAlias = Sequence[float]
"""mm along each axis of the array it belongs to."""

UNEVEN = 2.0
"""Ratio of the distances between rows and between columns that no scanner makes: spacings in another order do."""


def only_where(condition: str, **values: object) -> None:
    """Refuse arguments that have no effect.

    Args:
        condition: where they have one, in words.
        values: None and False are as left out.

    Raises:
        UsageError: one was given.
    """
    if extra := [f"`{name}`" for name, value in values.items() if value is not None and value is not False]:
        raise UsageError(f"{', '.join(extra)}: only where {condition}")


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
    """Take a volume or an array, and give a Python warning where its values or its spacing look wrong.

    Args:
        image: HU; an array has the axes (row, column) or (slice, row, column). What a masked array masks is padding.
        spacing: mm along each axis of an array; None for a volume, which has its own.
        needs_spacing: whether an array without `spacing` is an error; otherwise it is taken to be 1 mm.

    Raises:
        DomainError: another number of axes, NaN or infinity, values that are no real numbers, a spacing that does not
            fit or that no scanner has, or a `spacing` beside a volume.
    """
    if isinstance(image, Volume):
        if spacing is not None:
            raise DomainError("`spacing` is given for arrays only; a Volume has its own in `volume.grid.spacing`")
        image.check_finite()
        _check_spacing(image)
        _doubt(image)
        return Given(image, None)
    volume, ndim = _from_array(image, spacing, needs_spacing=needs_spacing)
    if spacing is not None:
        _check_spacing(volume)
    _doubt(volume)
    return Given(volume, ndim)


def _from_array(image: ArrayHU, spacing: Spacing | None, *, needs_spacing: bool) -> tuple[Volume, int]:
    # A masked array keeps its mask.
    array = np.asanyarray(image)
    if array.ndim not in {2, 3}:
        raise DomainError(f"an image has the axes (row, column) or (slice, row, column), got shape {array.shape}")
    if spacing is None:
        if needs_spacing:
            raise DomainError("an array needs `spacing`: mm along each of its axes, such as (0.8, 0.8)")
        spacing = (1.0,) * array.ndim
    try:
        distances = tuple(map(float, spacing))
    except (TypeError, ValueError) as error:
        raise DomainError(f"`spacing` is a sequence of numbers in mm, one for each axis, got {spacing!r}") from error
    if len(distances) != array.ndim:
        raise DomainError(f"`spacing` needs one value in mm for each of {array.ndim} axes, got {distances}")
    voxels = array if array.ndim == 3 else array[None]
    slices_mm = distances[0] if array.ndim == 3 else 1.0
    return Volume.from_array(voxels, (slices_mm, distances[-2], distances[-1])), array.ndim


def _check_spacing(volume: Volume) -> None:
    """Refuse a spacing that no scanner has; metres or centimetres for mm are such."""
    (step, rows, columns), (count, height, width) = volume.grid.spacing, volume.grid.shape
    text = f"`spacing` of {step:g} × {rows:g} × {columns:g} mm"
    # Pixels may be larger than a scanner's: what `degrade` made of coarse ones.
    if min(rows, columns) < PIXEL_MM[0] or (count > 1 and not SMALLEST_STEP_MM <= step <= LARGEST_STEP_MM):
        raise DomainError(f"{text} is impossible; it is in mm")
    if (field := max(rows * height, columns * width)) > LARGEST_FIELD_MM:
        raise DomainError(f"{text} makes a field of view of {field:.0f} mm, which no scanner has")
    if max(rows, columns) > UNEVEN * min(rows, columns):
        warn(
            f"rows lie {rows:g} mm apart and columns {columns:g} mm, as on no scanner: "
            "`spacing` has the order of the array's axes, (slice, row, column)"
        )


def _doubt(volume: Volume) -> None:
    """Give a warning where the values do not look like HU, as `ctsr.scan` finds it in series."""

    def finding(index: int) -> HUFinding:
        pixels = slice_of(volume, index)
        return check_hu(pixels.hu, pixels.padding)

    found = check_slices(volume.grid.shape[0], volume.grid.shape[0] // 2, finding)
    if found.verdict is not Verdict.PLAUSIBLE:
        warn(f"the values do not look like HU: {found.detail}; correct them first")
