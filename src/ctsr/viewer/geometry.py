"""Display geometry of a series in each plane: sizes in mm, the slice of each row, anatomical edge labels."""

from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from ctsr.data.pairs import centered_crop
from ctsr.series import Series
from ctsr.viewer.options import PlaneName
from ctsr.volume import Vector, normal, spread

PLANES: tuple[PlaneName, ...] = get_args(PlaneName)

NO_SLICE = -1
"""Entry of `ViewGeometry.z_rows` where there is no slice."""
OBLIQUE = 0.35
"""A direction gets two letters if its second largest component is at least this, the cosine of about 70°."""
LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))
"""For each patient axis (LPS), the letters of its positive and negative direction."""
MAX_ROWS_PER_SLICE = 4
"""Above this, an even grid would show mostly empty rows: slices are stacked instead."""


@dataclass(frozen=True)
class EdgeLabels:
    """Anatomical direction of each image edge: R, L, A, P, S, I or two of them."""

    left: str
    right: str
    top: str
    bottom: str


@dataclass(frozen=True)
class ViewGeometry:
    """Shape and spacing of a series cropped to a multiple of the scale, as (slice, row, column).

    Rows of coronal and sagittal images lie on an even grid along the slice normal, head up.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    """mm: between rows of coronal and sagittal images, between axial rows, between axial columns."""
    crop: tuple[slice, slice]
    """Stored rows and columns that are shown."""
    z_rows: tuple[int, ...]
    """Slice of each row of a coronal or sagittal image from the top, or `NO_SLICE`."""
    edge_labels: dict[PlaneName, EdgeLabels]

    def count(self, plane: PlaneName) -> int:
        """Number of images in a plane."""
        return self.shape[PLANES.index(plane)]

    def size(self, plane: PlaneName) -> tuple[int, int]:
        """Rows and columns of an image at full resolution."""
        _, rows, columns = self.shape
        match plane:
            case "axial":
                return rows, columns
            case "coronal":
                return len(self.z_rows), columns
            case "sagittal":
                return len(self.z_rows), rows

    def pixel(self, plane: PlaneName) -> tuple[float, float]:
        """Spacing in mm between rows and between columns of an image."""
        z, row, column = self.spacing
        return {"axial": (row, column), "coronal": (z, column), "sagittal": (z, row)}[plane]


def view_geometry(series: Series, scale: int) -> ViewGeometry:
    """Compute the display geometry of a series for super-resolution by `scale`."""
    row_crop = centered_crop(series.rows, scale)
    column_crop = centered_crop(series.columns, scale)
    step, places = _even_rows(series)
    slice_normal = normal(series.orientation)
    ascending = slice_normal[2] >= 0
    along_columns, along_rows = series.orientation[:3], series.orientation[3:]
    superior = slice_normal if ascending else _opposite(slice_normal)
    return ViewGeometry(
        shape=(len(series.slices), row_crop.stop - row_crop.start, column_crop.stop - column_crop.start),
        spacing=(step, *series.pixel_spacing),
        crop=(row_crop, column_crop),
        z_rows=tuple(int(place) for place in (places[::-1] if ascending else places)),
        edge_labels={
            "axial": _edge_labels(along_columns, along_rows),
            "coronal": _edge_labels(along_columns, _opposite(superior)),
            "sagittal": _edge_labels(along_rows, _opposite(superior)),
        },
    )


def _even_rows(series: Series) -> tuple[float, npt.NDArray[np.int64]]:
    """Step in mm of an even grid along the normal, and the slice nearest to each grid position, if it is near."""
    count = len(series.slices)
    step = series.slice_step or series.slice_thickness or 1.0
    along = spread([header.position for header in series.slices], series.orientation).along
    extent = float(along[-1] - along[0])
    rows = round(extent / step) + 1
    if rows > MAX_ROWS_PER_SLICE * count or (count > 1 and extent == 0):
        return step, np.arange(count)
    step = extent / (rows - 1) if rows > 1 else step
    distance = np.abs(along[0] + step * np.arange(rows)[:, None] - along)
    nearest = distance.argmin(axis=1)
    # Unevenly spaced slices may lie up to half a step off the grid.
    return step, np.where(distance.min(axis=1) <= 0.51 * step, nearest, NO_SLICE)


def _edge_labels(rightwards: Vector, downwards: Vector) -> EdgeLabels:
    return EdgeLabels(
        left=_letters(_opposite(rightwards)),
        right=_letters(rightwards),
        top=_letters(_opposite(downwards)),
        bottom=_letters(downwards),
    )


def _opposite(direction: Vector) -> Vector:
    x, y, z = direction
    return -x, -y, -z


def _letters(direction: Vector) -> str:
    """Letter of a direction; two where it is clearly oblique."""
    axes = sorted(range(3), key=lambda axis: -abs(direction[axis]))
    named = [axis for rank, axis in enumerate(axes) if rank == 0 or abs(direction[axis]) >= OBLIQUE]
    return "".join(LETTERS[axis][int(direction[axis] < 0)] for axis in named[:2])
