"""Geometry of a fan-beam scanner, and the raster that a slice stands on.

Coordinates are mm from the isocentre: x grows with the column index, y with the row index. A ray is
the line ``x·cos θ + y·sin θ = s``. The source at angle β stands at ``R·(−sin β, cos β)``; its ray
at fan angle γ is the one with ``θ = β + γ`` and ``s = R·sin γ`` (Kak and Slaney, Principles of
Computerized Tomographic Imaging, 1988, chapter 3).
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ctsr.errors import DomainError

Values: TypeAlias = npt.NDArray[np.float64]
Sinogram: TypeAlias = npt.NDArray[np.float32]
"""Line integrals of μ, no unit; axes (view, column)."""


@dataclass(frozen=True)
class FanBeam:
    """A third-generation scanner: a curved detector about the source, and one full turn of equal steps.

    The detector is shifted by a quarter of a column, so that opposite rays fall between one another
    and a turn samples the slice twice as finely as the columns are wide.
    """

    source_isocentre_mm: float = 595.0
    source_detector_mm: float = 1085.6
    columns: int = 880
    views: int = 1160
    column_mm: float = 1.0755
    """Arc length of a detector column; 880 of them see a field of 502 mm."""
    focal_spot_mm: float = 1.0
    """Width of the focal spot, which blurs as a box; 0 is a point."""

    def __post_init__(self) -> None:
        if not 0 < self.source_isocentre_mm < self.source_detector_mm:
            raise DomainError(
                "a scanner's isocentre lies between source and detector, got "
                f"{self.source_isocentre_mm:g} and {self.source_detector_mm:g} mm from the source"
            )
        if self.columns < 2 or self.views < 4 or self.views % 2:
            raise DomainError(
                f"a scanner needs at least 2 columns and an even number of views, got {self.columns} and {self.views}"
            )
        if self.column_mm <= 0 or self.focal_spot_mm < 0 or self.fan_angle >= np.pi:
            raise DomainError(
                f"columns of {self.column_mm:g} mm and a focal spot of {self.focal_spot_mm:g} mm make no fan"
            )

    @property
    def column_angle(self) -> float:
        """Fan angle of one column, radians."""
        return self.column_mm / self.source_detector_mm

    @property
    def fan_angle(self) -> float:
        """From the first column to the last, radians."""
        return self.columns * self.column_angle

    @property
    def column_at_isocentre_mm(self) -> float:
        """Width of a column's beam at the isocentre: what limits the resolution."""
        return self.source_isocentre_mm * self.column_angle

    @property
    def nyquist_per_mm(self) -> float:
        """Nyquist frequency of the columns at the isocentre; the interleaved rays of a turn reach twice as far."""
        return 1 / (2 * self.column_at_isocentre_mm)

    @property
    def field_radius_mm(self) -> float:
        """Radius of the circle that every view sees whole."""
        half = (self.columns / 2 - 0.75) * self.column_angle
        return self.source_isocentre_mm * float(np.sin(half))

    @property
    def view_angles(self) -> Values:
        """β of each view, radians."""
        return np.arange(self.views, dtype=np.float64) * (2 * np.pi / self.views)

    def fan_angles(self, subrays: int = 1) -> Values:
        """γ of the rays, radians, ascending: `subrays` in each column, evenly spread over its width."""
        offsets = (np.arange(self.columns * subrays) + 0.5) / subrays - self.columns / 2 + 0.25
        return offsets * self.column_angle

    def fan_edges(self, subrays: int = 1) -> Values:
        """γ of the borders between those rays' shares of a column: (columns · subrays + 1), radians."""
        offsets = np.arange(self.columns * subrays + 1) / subrays - self.columns / 2 + 0.25
        return offsets * self.column_angle


@dataclass(frozen=True)
class ImageGrid:
    """A raster of square pixels in the plane of the scan."""

    shape: tuple[int, int]
    """Rows and columns."""
    pixel_mm: float
    center_mm: tuple[float, float] = (0.0, 0.0)
    """y and x of the raster's middle: (0, 0) is the isocentre."""

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or not self.pixel_mm > 0:
            raise DomainError(f"a raster needs pixels of more than 0 mm, got {self.shape} of {self.pixel_mm:g} mm")

    @property
    def rows_mm(self) -> Values:
        """Y of the rows' middles."""
        return _middles(self.shape[0], self.pixel_mm, self.center_mm[0])

    @property
    def columns_mm(self) -> Values:
        """X of the columns' middles."""
        return _middles(self.shape[1], self.pixel_mm, self.center_mm[1])

    def finer(self, factor: int) -> "ImageGrid":
        """The same field on pixels of a `factor`-th of the size."""
        rows, columns = self.shape
        return ImageGrid((rows * factor, columns * factor), self.pixel_mm / factor, self.center_mm)


def _middles(count: int, pixel_mm: float, center_mm: float) -> Values:
    return center_mm + (np.arange(count, dtype=np.float64) - (count - 1) / 2) * pixel_mm
