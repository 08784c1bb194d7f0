"""How a series lies in each plane of the screen: sizes in mm, which slice is which row, and the R/L/A/P/S/I marks."""

from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from ctsr.data.pairs import centered_crop
from ctsr.geometry import normal, spread
from ctsr.series import Series
from ctsr.viewer.options import PlaneName
from ctsr.volume import Vector

__all__ = ["NO_SLICE", "PLANES", "Geometry", "Marks", "geometry_of"]

PLANES: tuple[PlaneName, ...] = get_args(PlaneName)

NO_SLICE = -1
"""In `Geometry.z_rows`: no slice lies there."""
OBLIQUE = 0.35
"""A direction whose second largest part is this long has two letters: the cosine of about 70°."""
LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))
"""Along each axis of the patient (LPS): what lies in its direction, and against it."""
SPARSE = 4
"""An even grid with so many times more rows than slices shows nothing but holes."""


@dataclass(frozen=True)
class Marks:
    """Where the edges of a picture face: R, L, A, P, S, I or two of them."""

    left: str
    right: str
    top: str
    bottom: str


@dataclass(frozen=True)
class Geometry:
    """A series cropped to a multiple of the scale, in the order (slice, row, column).

    Coronal and sagittal pictures have one row for each place of an even grid along the slices' normal, the
    patient's head upwards.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    """mm: between the rows of coronal and sagittal pictures, between rows, between columns."""
    crop: tuple[slice, slice]
    """Of the stored rows and columns."""
    z_rows: tuple[int, ...]
    """For each row of a coronal or sagittal picture from the top, the slice there, or `NO_SLICE`."""
    marks: dict[PlaneName, Marks]

    def count(self, plane: PlaneName) -> int:
        """How many pictures there are in a plane."""
        return self.shape[PLANES.index(plane)]

    def size(self, plane: PlaneName) -> tuple[int, int]:
        """Rows and columns of a picture at full resolution."""
        _, rows, columns = self.shape
        match plane:
            case "axial":
                return rows, columns
            case "coronal":
                return len(self.z_rows), columns
            case "sagittal":
                return len(self.z_rows), rows

    def pixel(self, plane: PlaneName) -> tuple[float, float]:
        """Spacing in mm between the rows and between the columns of such a picture."""
        z, row, column = self.spacing
        return {"axial": (row, column), "coronal": (z, column), "sagittal": (z, row)}[plane]


def geometry_of(series: Series, scale: int) -> Geometry:
    """What a viewer must know of a series' place in space."""
    row_crop, column_crop = (centered_crop(size, scale) for size in (series.rows, series.columns))
    step, places = _even_rows(series)
    towards = normal(series.orientation)
    upwards = towards[2] >= 0
    along_columns, along_rows = series.orientation[:3], series.orientation[3:]
    superior = towards if upwards else _opposite(towards)
    return Geometry(
        shape=(len(series.slices), row_crop.stop - row_crop.start, column_crop.stop - column_crop.start),
        spacing=(step, *series.pixel_spacing),
        crop=(row_crop, column_crop),
        z_rows=tuple(int(place) for place in (places[::-1] if upwards else places)),
        marks={
            "axial": _marks(along_columns, along_rows),
            "coronal": _marks(along_columns, _opposite(superior)),
            "sagittal": _marks(along_rows, _opposite(superior)),
        },
    )


def _even_rows(series: Series) -> tuple[float, npt.NDArray[np.int64]]:
    """The step in mm of an even grid along the normal, and the slice nearest to each place on it, if it is near."""
    count = len(series.slices)
    step = series.slice_step or series.slice_thickness or 1.0
    along = spread([header.position for header in series.slices], series.orientation).along
    extent = float(along[-1] - along[0])
    rows = round(extent / step) + 1
    if rows > SPARSE * count or (count > 1 and extent == 0):
        return step, np.arange(count)
    step = extent / (rows - 1) if rows > 1 else step
    distance = np.abs(along[0] + step * np.arange(rows)[:, None] - along)
    nearest = distance.argmin(axis=1)
    # Slices on no even grid may lie up to half a step beside it.
    return step, np.where(distance.min(axis=1) <= 0.51 * step, nearest, NO_SLICE)


def _marks(rightwards: Vector, downwards: Vector) -> Marks:
    return Marks(
        left=_letters(_opposite(rightwards)),
        right=_letters(rightwards),
        top=_letters(_opposite(downwards)),
        bottom=_letters(downwards),
    )


def _opposite(direction: Vector) -> Vector:
    x, y, z = direction
    return -x, -y, -z


def _letters(direction: Vector) -> str:
    """What lies in a direction; a second letter where it is clearly oblique."""
    axes = sorted(range(3), key=lambda axis: -abs(direction[axis]))
    named = [axis for place, axis in enumerate(axes) if place == 0 or abs(direction[axis]) >= OBLIQUE]
    return "".join(LETTERS[axis][int(direction[axis] < 0)] for axis in named[:2])
