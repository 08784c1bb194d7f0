"""Geometry of a fan-beam scanner, and line integrals of an object in it.

Shapes are projected by their closed form, images by distance-driven projection.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import fft

from ctsr.errors import DomainError
from ctsr.hu import FloatArray

Values: TypeAlias = npt.NDArray[np.float64]
Sinogram: TypeAlias = npt.NDArray[np.float32]
"""Line integrals of μ, no unit; axes (view, column)."""

MU_WATER = 0.0192
"""Attenuation of water, 1/mm, at about 70 keV."""
VIEWS_AT_ONCE = 8
"""Views of shapes, so that what is computed at once stays in the processor's cache."""
ROWS_AT_ONCE = 48
"""Rows of an image, for the same reason."""


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
                "a scanner's isocentre must lie between source and detector, got "
                f"{self.source_isocentre_mm:g} and {self.source_detector_mm:g} mm from the source"
            )
        if self.columns < 2 or self.views < 4 or self.views % 2:
            raise DomainError(
                f"a scanner needs at least 2 columns and an even number of views, got {self.columns} and {self.views}"
            )
        if self.column_mm <= 0 or self.focal_spot_mm < 0 or self.fan_angle >= np.pi:
            raise DomainError(
                f"columns of {self.column_mm:g} mm and a focal spot of {self.focal_spot_mm:g} mm "
                "are not a fan-beam detector"
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


def to_mu(hu: FloatArray) -> npt.NDArray[np.float32]:
    """HU → attenuation in 1/mm; what is thinner than air attenuates nothing."""
    return np.maximum(MU_WATER * (1 + np.asarray(hu, np.float32) / 1000), 0)


def to_hu(mu: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Attenuation in 1/mm → HU."""
    return mu * np.float32(1000 / MU_WATER) - np.float32(1000)


class Shape(Protocol):
    """Something uniform that adds its contrast to what it lies in; air is −1000 HU, so water on air is +1000."""

    @property
    def contrast_hu(self) -> float:
        """HU that the shape adds."""
        ...

    @property
    def center_mm(self) -> tuple[float, float]:
        """Its middle: y and x."""
        ...

    @property
    def radius_mm(self) -> float:
        """Radius of the smallest circle about its middle that holds it."""
        ...

    def chord_mm(self, cosine: Values, sine: Values, s: Values) -> Values:
        """Length of the rays ``x·cos θ + y·sin θ = s`` within the shape, mm."""
        ...

    def holds(self, y: Values, x: Values) -> npt.NDArray[np.bool_]:
        """Whether points lie inside."""
        ...


def project_shapes(shapes: Iterable[Shape], geometry: FanBeam, *, subrays: int = 4) -> Sinogram:
    """Project shapes, which add up.

    Args:
        shapes: within the field of the scanner.
        geometry: of the scanner.
        subrays: rays that are averaged over each column. The mean is that of line integrals, not of
            intensities, so the scanner is linear.
    """
    fan = geometry.fan_angles(subrays)
    distance = geometry.source_isocentre_mm * np.sin(fan)
    total = np.empty((geometry.views, geometry.columns), np.float32)
    parts = list(shapes)
    for start in range(0, geometry.views, VIEWS_AT_ONCE):
        views = slice(start, start + VIEWS_AT_ONCE)
        theta = geometry.view_angles[views, None] + fan
        cosine, sine = np.cos(theta), np.sin(theta)
        away = np.broadcast_to(distance, theta.shape)
        rays = np.zeros(theta.shape)
        for shape in parts:
            # Most rays pass by a small shape; the rest are few.
            near = np.abs(offset_mm(cosine, sine, away, shape.center_mm)) < shape.radius_mm
            chords = shape.chord_mm(cosine[near], sine[near], away[near])
            rays[near] += shape.contrast_hu * chords
        total[views] = _detected(rays * (MU_WATER / 1000), geometry, subrays, thin=True)
    return total


def project_image(hu: FloatArray, grid: ImageGrid, geometry: FanBeam, *, subrays: int = 2) -> Sinogram:
    """Project an image; around it, and beyond the scanner's field, there is nothing.

    Distance-driven (De Man and Basu, Phys. Med. Biol. 49:2463, 2004): each row of pixels, or each
    column where a ray runs along the rows, is averaged over the beam of a detector column, so that
    neither is skipped.

    Args:
        hu: ``grid.shape``, HU.
        grid: where the pixels lie.
        geometry: of the scanner.
        subrays: parts of a column that are taken one by one, before the focal spot blurs them; 2 is
            enough for the interleaved rays of a turn, 1 takes half the time.

    Raises:
        DomainError: the image is not of the grid's shape.
    """
    if hu.shape != grid.shape:
        raise DomainError(f"an image of {hu.shape} does not fit a raster of {grid.shape}")
    y, x = grid.rows_mm, grid.columns_mm
    inside = np.hypot(y[:, None], x) <= geometry.field_radius_mm
    mu = np.where(inside, to_mu(hu), np.float32(0))
    by_row, by_column = _Lines(mu, y, x, grid.pixel_mm), _Lines(mu.T, x, y, grid.pixel_mm)
    edges, middles = geometry.fan_edges(subrays), geometry.fan_angles(subrays)
    distance = geometry.source_isocentre_mm * np.sin(edges)
    total = np.empty((geometry.views, geometry.columns), np.float32)
    for view, beta in enumerate(geometry.view_angles):
        steep = np.abs(np.cos(beta + middles)) >= np.abs(np.sin(beta + middles))
        rays = np.empty(middles.shape)
        for first, last in _runs(steep):
            angles, offset = beta + edges[first : last + 1], distance[first : last + 1]
            cosine, sine = np.cos(angles), np.sin(angles)
            if steep[first]:
                sums = by_row.sums(offset / cosine, -sine / cosine)
            else:
                sums = by_column.sums(offset / sine, -cosine / sine)
            angles = beta + middles[first:last]
            rays[first:last] = sums / np.maximum(np.abs(np.cos(angles)), np.abs(np.sin(angles)))
        total[view] = _detected(rays[None] * grid.pixel_mm, geometry, subrays, thin=False)[0]
    return total


class _Lines:
    """Running sums along the rows of an image, which a beam takes differences of."""

    def __init__(self, mu: npt.NDArray[np.float32], rows_mm: Values, columns_mm: Values, pixel_mm: float) -> None:
        used = np.flatnonzero(mu.any(axis=1))
        self._count, self._pixel_mm = mu.shape[1], pixel_mm
        self._left = float(columns_mm[0]) - pixel_mm / 2
        self._rows = rows_mm[used].astype(np.float32)[:, None]
        # One more value than there are borders, so that the last border has a right neighbour, too.
        sums = np.zeros((len(used), self._count + 2), np.float32)
        np.cumsum(mu[used], axis=1, out=sums[:, 1:-1])
        sums[:, -1] = sums[:, -2]
        self._sums = sums.ravel()
        self._starts = (np.arange(len(used)) * (self._count + 2)).astype(np.intp)[:, None]

    def sums(self, at_zero: Values, slope: Values) -> npt.NDArray[np.float32]:
        """The sum over all rows of the mean between neighbouring borders, which lie at ``at_zero + slope·row`` mm.

        Args:
            at_zero: (borders), mm.
            slope: (borders).

        Returns:
            (borders − 1), in the unit of the image.
        """
        start = ((at_zero - self._left) / self._pixel_mm).astype(np.float32)
        shift = (slope / self._pixel_mm).astype(np.float32)
        total = np.zeros(len(start) - 1, np.float32)
        for first in range(0, len(self._rows), ROWS_AT_ONCE):
            rows = slice(first, first + ROWS_AT_ONCE)
            place = self._rows[rows] * shift
            place += start
            width = place[:, 1:] - place[:, :-1]
            np.clip(place, 0, self._count, out=place)
            index = place.astype(np.intp)
            place -= index
            index += self._starts[rows]
            below = self._sums.take(index, mode="clip")
            index += 1
            above = self._sums.take(index, mode="clip")
            above -= below
            above *= place
            above += below
            # Borders may run backwards along the row; then so does the width, and the mean keeps its sign.
            means = above[:, 1:] - above[:, :-1]
            means /= width
            total += means.sum(axis=0)
        return total


@dataclass(frozen=True)
class Ellipse:
    """A uniform ellipse, or a disc."""

    contrast_hu: float
    center_mm: tuple[float, float]
    """y and x."""
    half_axes_mm: tuple[float, float]
    """Along the ellipse's own y and x."""
    angle: float = 0.0
    """By which it is turned from x towards y, radians."""

    @property
    def radius_mm(self) -> float:
        """Radius of the smallest circle about its middle that holds it."""
        return max(self.half_axes_mm)

    def chord_mm(self, cosine: Values, sine: Values, s: Values) -> Values:
        """``2ab·√(r² − t²)/r²``, r the half-width of the shadow, t the ray's distance from the centre."""
        across, along = self.half_axes_mm
        own_cosine, own_sine = _turned(cosine, sine, self.angle)
        shadow = (along * own_cosine) ** 2 + (across * own_sine) ** 2
        offset = offset_mm(cosine, sine, s, self.center_mm)
        return 2 * along * across * np.sqrt(np.maximum(shadow - offset**2, 0)) / shadow

    def holds(self, y: Values, x: Values) -> npt.NDArray[np.bool_]:
        """Whether points lie inside."""
        along, across = _own_axes(y, x, self.center_mm, self.angle)
        return (along / self.half_axes_mm[1]) ** 2 + (across / self.half_axes_mm[0]) ** 2 <= 1


@dataclass(frozen=True)
class Rectangle:
    """A uniform rectangle: an edge, or a bar of a pattern."""

    contrast_hu: float
    center_mm: tuple[float, float]
    """y and x."""
    half_sides_mm: tuple[float, float]
    """Along the rectangle's own y and x."""
    angle: float = 0.0
    """By which it is turned from x towards y, radians."""

    @property
    def radius_mm(self) -> float:
        """Radius of the smallest circle about its middle that holds it."""
        return float(np.hypot(*self.half_sides_mm))

    def chord_mm(self, cosine: Values, sine: Values, s: Values) -> Values:
        """The part of a ray that lies in both of the slabs that make the rectangle."""
        offset = offset_mm(cosine, sine, s, self.center_mm)
        own_cosine, own_sine = _turned(cosine, sine, self.angle)
        # A point of the ray, `t` mm from its foot, on the rectangle's own axes: (offset·cosine − t·sine,
        # offset·sine + t·cosine).
        first = _slab(offset * own_cosine, -own_sine, self.half_sides_mm[1])
        second = _slab(offset * own_sine, own_cosine, self.half_sides_mm[0])
        return np.maximum(np.minimum(first[1], second[1]) - np.maximum(first[0], second[0]), 0)

    def holds(self, y: Values, x: Values) -> npt.NDArray[np.bool_]:
        """Whether points lie inside."""
        along, across = _own_axes(y, x, self.center_mm, self.angle)
        return (np.abs(along) <= self.half_sides_mm[1]) & (np.abs(across) <= self.half_sides_mm[0])


def offset_mm(cosine: Values, sine: Values, s: Values, center: tuple[float, float]) -> Values:
    """How far rays pass from a centre, mm."""
    return s - center[1] * cosine - center[0] * sine


def _middles(count: int, pixel_mm: float, center_mm: float) -> Values:
    return center_mm + (np.arange(count, dtype=np.float64) - (count - 1) / 2) * pixel_mm


def _runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last + 1 of the stretches of equal flags."""
    borders = [0, *(np.flatnonzero(np.diff(flags)) + 1).tolist(), len(flags)]
    return list(pairwise(borders))


def _detected(rays: Values, geometry: FanBeam, subrays: int, *, thin: bool) -> Values:
    """Blur rays by the focal spot, as wide as its image is about the isocentre, and average them over the columns.

    Args:
        rays: (views, columns · subrays).
        geometry: of the scanner.
        subrays: rays of a column.
        thin: the rays are lines; otherwise means over their share of the column.

    Returns:
        (views, columns).
    """
    behind = geometry.source_detector_mm - geometry.source_isocentre_mm
    spot_mm = geometry.focal_spot_mm * behind / geometry.source_detector_mm
    width = spot_mm / geometry.column_at_isocentre_mm * subrays
    if width > 0 or thin:
        count = rays.shape[1]
        size = 1 << (count + 2 * int(np.ceil(width)) + 16).bit_length()
        frequencies = fft.rfftfreq(size)
        blur = np.sinc(frequencies * width) * (np.sinc(frequencies) if thin else 1)
        rays = np.asarray(fft.irfft(np.asarray(fft.rfft(rays, size, axis=1)) * blur, size, axis=1))[:, :count]
    return rays.reshape(len(rays), -1, subrays).mean(axis=2)


def _turned(cosine: Values, sine: Values, angle: float) -> tuple[Values, Values]:
    """Cosine and sine of θ less an angle."""
    return cosine * np.cos(angle) + sine * np.sin(angle), sine * np.cos(angle) - cosine * np.sin(angle)


def _own_axes(y: Values, x: Values, center: tuple[float, float], angle: float) -> tuple[Values, Values]:
    down, right = y - center[0], x - center[1]
    return right * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - right * np.sin(angle)


def _slab(start: Values, slope: Values, half: float) -> tuple[Values, Values]:
    """Between which `t` the line ``start + slope·t`` lies in ``−half … half``."""
    # A ray along the slab never leaves it, or never enters: so long a `t` that nothing of the field lies beyond.
    safe = np.where(np.abs(slope) < 1e-9, 1e-9, slope)
    ends = (-half - start) / safe, (half - start) / safe
    return np.minimum(*ends), np.maximum(*ends)
