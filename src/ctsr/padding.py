"""Slices of a series or a volume, and which of their pixels were never reconstructed."""

from dataclasses import dataclass, replace
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ctsr.hu import AIR
from ctsr.volume import PaddingMask, Plane, Volume, VoxelsHU

BELOW_AIR = -1100.0
"""HU: nothing physical lies here over a whole region, scanners clip at −1024 and noise goes both ways."""
ABOVE_AIR = -900.0
"""HU: a constant corner brighter than this is not a scanner's fill but part of the image."""
SMALLEST_RADIUS = 0.45
"""Of a reconstruction circle, in units of the image's shorter side; a round phantom in the middle is smaller."""
SHORTEST_RUN = 4
"""Pixels: shorter runs of the fill value at a border are clipped noise of true air."""
FEWEST_POINTS = 24
"""Points on the rim that make a circle believable."""
TRIALS = 200
"""Circles tried: where a third of the points lie on the rim, one of them is right with 99.9 % certainty."""
FILLED_OUTSIDE = 0.8
"""Least share of fill outside the circle; tables and streaks are reconstructed a little beyond it."""
FILLED_INSIDE = 0.5
"""Most fill in the band just inside: air there may be clipped, but not all of it."""

Points: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SlicePixels:
    """One slice in HU; padding reads as air and is remembered."""

    hu: VoxelsHU
    """(rows, columns), float32; −1000 where `padding` is True."""
    padding: PaddingMask | None
    """(rows, columns); None where every pixel was reconstructed."""

    @classmethod
    def from_padded(cls, hu: VoxelsHU, padding: PaddingMask | None) -> "SlicePixels":
        """A slice whose padded pixels, whatever they hold, are set to air."""
        if padding is None or not padding.any():
            return cls(hu, None)
        return cls(np.where(padding, np.float32(AIR), hu), padding)


def is_below_air(hu: float) -> bool:
    """True for a value in HU that only a fill can have."""
    return hu < BELOW_AIR


def connected_to_border(mask: PaddingMask) -> PaddingMask:
    """Those parts of a (rows, columns) mask that touch the image's border (4-neighbourhood)."""
    labels = cast("npt.NDArray[np.int32]", ndimage.label(mask)[0])  # pyright: ignore[reportIndexIssue]
    touching = np.zeros(int(labels.max()) + 1, dtype=np.bool_)
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        touching[border] = True
    touching[0] = False
    return touching[labels]


def outside_reconstruction(hu: VoxelsHU) -> PaddingMask | None:
    """The fill outside the reconstruction circle, found without any header; None where there is none.

    A fill below −1100 HU is recognised by its value and by reaching the corners. A fill of about −1024 HU looks
    like clipped air, so there the boundary must be a circle, of constant value outside and not inside.

    Args:
        hu: (rows, columns), HU.
    """
    corners = hu[[0, -1]][:, [0, -1]].ravel()
    low = float(np.median(corners))
    if is_below_air(low):
        # Lossy compression leaves no constant: half way to air separates the fill from the image there.
        constant = bool((corners == corners[0]).all())
        return connected_to_border(hu == corners[0] if constant else hu < (low + AIR) / 2)
    values, counts = np.unique(corners, return_counts=True)
    fill = float(values[counts.argmax()])
    if counts.max() < 2 or fill > ABOVE_AIR:
        return None
    return _outside_circle(hu == np.float32(fill))


def _outside_circle(filled: PaddingMask) -> PaddingMask | None:
    circle = _fit(_rim(filled), smallest_radius=SMALLEST_RADIUS * min(filled.shape))
    if circle is None:
        return None
    row, column, radius = circle
    rows, columns = np.ogrid[: filled.shape[0], : filled.shape[1]]
    # Squares: a root for each pixel would cost more than all the rest.
    square = ((rows - row) ** 2).astype(np.float32) + ((columns - column) ** 2).astype(np.float32)
    beyond = square > (radius + 1.5) ** 2
    rim = square > (radius - 1.5) ** 2
    band = (square > (radius - 5) ** 2) & ~rim
    if not beyond.any() or filled[beyond].mean() < FILLED_OUTSIDE or filled[band].mean() > FILLED_INSIDE:
        return None
    return filled & rim


def _rim(filled: PaddingMask) -> Points:
    """(points, 2): row and column where runs of fill that start at the border end, along rows and along columns."""
    height, width = filled.shape
    left, right = _runs(filled), _runs(filled[:, ::-1])
    top, bottom = _runs(filled.T), _runs(filled.T[:, ::-1])
    right[:, 1] = width - 1 - right[:, 1]
    bottom[:, 1] = height - 1 - bottom[:, 1]
    return np.concatenate([left, right, top[:, ::-1], bottom[:, ::-1]])


def _runs(filled: PaddingMask) -> Points:
    """(runs, 2): line, and where the run of fill at its start ends; of runs long enough that do end."""
    ends = np.where(filled.all(axis=1), 0, filled.argmin(axis=1))
    lines = np.flatnonzero(ends >= SHORTEST_RUN)
    return np.column_stack([lines, ends[lines] - 0.5]).astype(np.float64)


def _fit(points: Points, *, smallest_radius: float) -> Points | None:
    """(row, column, radius) of the circle most points lie on; None where no large circle holds enough of them.

    Consensus first (RANSAC: circles through three points each), then least squares on the points that agree,
    because clipped air moves many points inwards and a mean would follow them.
    """
    if len(points) < FEWEST_POINTS:
        return None
    triples = np.random.default_rng(0).choice(points, size=(TRIALS, 3))
    flat = np.linalg.det(_system(triples)) == 0
    circles = _solved(triples[~flat])
    circles = circles[circles[:, 2] >= smallest_radius]
    if not len(circles):
        return None
    sample = points[:: max(1, len(points) // 300)]
    best = circles[_on(circles, sample).sum(axis=1).argmax()]
    near = points[_on(best[None], points)[0]]
    if len(near) < max(FEWEST_POINTS, len(points) // 4):
        return None
    a, b, c = np.linalg.lstsq(_system(near), (near**2).sum(axis=-1), rcond=None)[0]
    return np.array([a / 2, b / 2, np.sqrt(c + (a * a + b * b) / 4)])


def _system(points: Points) -> Points:
    """(…, points, 3): the linear equations a·row + b·column + c = row² + column² of circles (Kåsa 1976)."""
    return np.concatenate([points, np.ones((*points.shape[:-1], 1))], axis=-1)


def _solved(triples: Points) -> Points:
    """(circles, 3): row, column and radius of the circle through each (circles, 3, 2) three points."""
    solution = np.linalg.solve(_system(triples), (triples**2).sum(axis=-1, keepdims=True))[..., 0]
    centre = solution[:, :2] / 2
    square = solution[:, 2] + (centre**2).sum(axis=1)
    return np.column_stack([centre, np.sqrt(square.clip(0))])


def _on(circles: Points, points: Points) -> npt.NDArray[np.bool_]:
    """(circles, points): True where a point lies within a pixel of a circle."""
    row, column, radius = circles.T[:, :, None]
    # Not hypot: it guards against overflow, at many times the cost.
    distance = np.sqrt((points[:, 0] - row) ** 2 + (points[:, 1] - column) ** 2)
    return np.abs(distance - radius) <= 1


def plane_of(volume: Volume) -> Plane:
    """The raster of the first slice of a volume."""
    grid = volume.grid
    return Plane(grid.shape[1:], grid.spacing[1:], grid.origin, grid.directions[1:])


def finer_plane(plane: Plane, scale: int) -> Plane:
    """The raster with `scale` times as many rows and columns on the same field of view."""
    rows, columns = plane.shape
    return plane.recentred((rows * scale, columns * scale), (plane.spacing[0] / scale, plane.spacing[1] / scale))


def slice_of(volume: Volume, index: int) -> SlicePixels:
    """One slice of a volume, with its padding."""
    padding = None if volume.padding is None else volume.padding[index]
    return SlicePixels.from_padded(volume.hu[index], padding)


def volume_of(slices: list[SlicePixels], plane: Plane, like: Volume) -> Volume:
    """Slices as a volume.

    Args:
        slices: (rows, columns) each, as many as `like` has.
        plane: raster of the first slice.
        like: gives the distance and the direction from slice to slice.
    """
    hu: VoxelsHU = np.stack([pixels.hu for pixels in slices])
    padding: PaddingMask | None = None
    if any(pixels.padding is not None for pixels in slices):
        padding = np.zeros(hu.shape, np.bool_)
        for index, pixels in enumerate(slices):
            if pixels.padding is not None:
                padding[index] = pixels.padding
    grid = replace(
        like.grid,
        shape=(len(slices), *plane.shape),
        spacing=(like.grid.spacing[0], *plane.spacing),
        origin=plane.origin,
    )
    return Volume(hu, grid, padding)
