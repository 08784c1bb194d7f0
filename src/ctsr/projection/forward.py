"""Line integrals of an object: of shapes by their closed form, of an image by distance-driven projection."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import fft

from ctsr.errors import DomainError
from ctsr.hu import FloatArray
from ctsr.projection.fan_beam import FanBeam, ImageGrid, Sinogram, Values
from ctsr.projection.shapes import Shape, offset_mm

MU_WATER = 0.0192
"""Attenuation of water, 1/mm, at about 70 keV."""
VIEWS_AT_ONCE = 8
"""Of shapes: what is reckoned at once stays in the processor's cache."""
ROWS_AT_ONCE = 48
"""Of an image; the same."""


def to_mu(hu: FloatArray) -> npt.NDArray[np.float32]:
    """HU → attenuation in 1/mm; what is thinner than air attenuates nothing."""
    return np.maximum(MU_WATER * (1 + np.asarray(hu, np.float32) / 1000), 0)


def to_hu(mu: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Attenuation in 1/mm → HU."""
    return mu * np.float32(1000 / MU_WATER) - np.float32(1000)


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
    by_row, by_column = (_Lines(*line, grid.pixel_mm) for line in ((mu, y, x), (mu.T, x, y)))
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
