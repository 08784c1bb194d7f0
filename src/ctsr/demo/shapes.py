"""Solids as signed distances in mm, and painting them on one axial plane without jagged edges."""

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ctsr.volume import Vector

__all__ = [
    "FAR",
    "Canvas",
    "Ellipsoid",
    "Image",
    "Plane",
    "Segments",
    "Solid",
    "Window",
    "coverage",
    "smooth_max",
    "smooth_min",
    "smooth_step",
    "tube",
    "tube_distance",
]

Image: TypeAlias = npt.NDArray[np.floating]
"""One value per pixel, float32 wherever time matters; axes (row, column)."""

Window: TypeAlias = tuple[slice, slice]
"""Rows and columns of a part of an image."""

Segments: TypeAlias = npt.NDArray[np.float64]
"""Round cones, one per row: start x y z radius, end x y z radius, all mm; shape (n, 8)."""

FAR = 1e3
"""The distance given where nothing is near, mm."""

_TUBE_MARGIN = 2.5
"""mm around a tube in which its wall lies."""

_MARGIN = 8.0
"""mm by which a solid's window is widened: the body's organic warp moves points by less."""


@dataclass(frozen=True)
class Plane:
    """One axial plane: where its pixel centres lie in the frame a body is described in.

    `x` and `y` hold every pixel's coordinates, bent by the body's warp; `origin` and `step` give them unbent, so that
    the part of the image a solid can touch is found without looking at all pixels.
    """

    x: Image
    y: Image
    z: float
    origin: tuple[float, float]
    step: tuple[float, float]

    @property
    def pixel(self) -> float:
        """The width of a pixel in the body's frame, mm."""
        return (self.step[0] + self.step[1]) / 2

    def window(self, x: tuple[float, float], y: tuple[float, float]) -> Window | None:
        """The pixels that a box from ``x[0]`` to ``x[1]`` and ``y[0]`` to ``y[1]`` mm may touch; None if none."""
        rows, columns = self.x.shape
        left = max(0, math.floor((x[0] - _MARGIN - self.origin[0]) / self.step[0]))
        right = min(columns, math.ceil((x[1] + _MARGIN - self.origin[0]) / self.step[0]) + 1)
        top = max(0, math.floor((y[0] - _MARGIN - self.origin[1]) / self.step[1]))
        bottom = min(rows, math.ceil((y[1] + _MARGIN - self.origin[1]) / self.step[1]) + 1)
        return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


class Solid(Protocol):
    """Something with an inside."""

    def window(self, plane: Plane, grow: float = 0.0) -> Window | None:
        """The part of `plane` it can touch once grown by `grow` mm."""
        ...

    def distance(self, x: Image, y: Image, z: float) -> Image:
        """Signed distance to its surface in mm, negative inside."""
        ...


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid turned about the z axis: `turn` degrees from the first radius' axis x towards y."""

    center: Vector
    radii: Vector
    turn: float = 0.0

    def window(self, plane: Plane, grow: float = 0.0) -> Window | None:
        """The part of `plane` it can touch once grown by `grow` mm."""
        if abs(plane.z - self.center[2]) > self.radii[2] + grow + 1:
            return None
        cos, sin = math.cos(math.radians(self.turn)), math.sin(math.radians(self.turn))
        half_x = math.hypot(self.radii[0] * cos, self.radii[1] * sin) + grow
        half_y = math.hypot(self.radii[0] * sin, self.radii[1] * cos) + grow
        cx, cy, _ = self.center
        return plane.window((cx - half_x, cx + half_x), (cy - half_y, cy + half_y))

    def distance(self, x: Image, y: Image, z: float) -> Image:
        """Signed distance in mm, exact to first order at the surface (k₀(k₀−1)/k₁ of Quilez' distance functions)."""
        cos, sin = math.cos(math.radians(self.turn)), math.sin(math.radians(self.turn))
        dx, dy = x - np.float32(self.center[0]), y - np.float32(self.center[1])
        rx, ry, rz = self.radii
        a = (dx * np.float32(cos) + dy * np.float32(sin)) * np.float32(1 / rx)
        b = (dy * np.float32(cos) - dx * np.float32(sin)) * np.float32(1 / ry)
        c = (z - self.center[2]) / rz
        k0 = np.sqrt(a * a + b * b + np.float32(c * c))
        k1 = np.sqrt((a / np.float32(rx)) ** 2 + (b / np.float32(ry)) ** 2 + np.float32((c / rz) ** 2 + 1e-9))
        return k0 * (k0 - 1) / k1


def tube(*stations: tuple[float, float, float, float]) -> Segments:
    """A smooth tube through `stations`, each x, y, z and radius in mm; Catmull-Rom, cut into short round cones."""
    knots = np.array(stations)
    before, after = 2 * knots[0] - knots[1], 2 * knots[-1] - knots[-2]
    padded = np.vstack([before, knots, after])
    pieces = [knots[:1]]
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        count = max(2, math.ceil(float(np.linalg.norm((p2 - p1)[:3])) / 5))
        t = np.linspace(0, 1, count + 1)[1:, None]
        pieces.append(
            0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * (p1 - p2) + p3 - p0) * t**3)
        )
    path = np.vstack(pieces)
    return np.hstack([path[:-1], path[1:]])


def tube_distance(plane: Plane, segments: Segments) -> tuple[Window, Image] | None:
    """Signed distance in mm to the union of round cones: the part of `plane` they can touch, and the distance there.

    `FAR` where no cone is near; None where the plane meets none of them.
    """
    reach = np.maximum(segments[:, 3], segments[:, 7]) + _TUBE_MARGIN
    start, end = segments[:, :3], segments[:, 4:7]
    low, high = np.minimum(start, end) - reach[:, None], np.maximum(start, end) + reach[:, None]
    near = (low[:, 2] <= plane.z) & (plane.z <= high[:, 2])
    if not near.any():
        return None
    (left, front, _), (right, back, _) = low[near].min(axis=0).tolist(), high[near].max(axis=0).tolist()
    whole = plane.window((left, right), (front, back))
    if whole is None:
        return None
    nearest = np.full(plane.x.shape, FAR, dtype=np.float32)
    for segment, (left, front, _), (right, back, _) in zip(
        segments[near].tolist(), low[near].tolist(), high[near].tolist(), strict=True
    ):
        window = plane.window((left, right), (front, back))
        if window is not None:
            distance = _cone_distance(plane.x[window], plane.y[window], plane.z, segment)
            np.minimum(nearest[window], distance, out=nearest[window])
    return whole, nearest[whole]


def _cone_distance(x: Image, y: Image, z: float, segment: list[float]) -> Image:
    """Distance in mm to one round cone: to its axis, less the radius at the nearest point of it."""
    ax, ay, az, radius, bx, by, bz, end_radius = segment
    ux, uy, uz = bx - ax, by - ay, bz - az
    dx, dy, dz = x - np.float32(ax), y - np.float32(ay), z - az
    inverse = 1 / (ux * ux + uy * uy + uz * uz + 1e-9)
    along = dx * np.float32(ux * inverse) + dy * np.float32(uy * inverse) + np.float32(dz * uz * inverse)
    along = np.minimum(np.maximum(along, 0), 1)
    ex, ey, ez = dx - along * np.float32(ux), dy - along * np.float32(uy), np.float32(dz) - along * np.float32(uz)
    return np.sqrt(ex * ex + ey * ey + ez * ez) - (np.float32(radius) + along * np.float32(end_radius - radius))


def coverage(distance: Image, pixel: float) -> Image:
    """The share of each pixel that lies inside, from the distance of its centre: a ramp one pixel wide."""
    return np.minimum(np.maximum(np.float32(0.5) - distance * np.float32(1 / pixel), 0), 1)


def smooth_min(a: Image, b: Image, blend: float) -> Image:
    """The union of two distances, its crease filled over `blend` mm (Quilez' quadratic smooth minimum)."""
    overlap = np.maximum(np.float32(blend) - np.abs(a - b), 0)
    return np.minimum(a, b) - overlap * overlap * np.float32(0.25 / blend)


def smooth_max(a: Image, b: Image, blend: float) -> Image:
    """The intersection of two distances, its edge rounded over `blend` mm."""
    return -smooth_min(-a, -b, blend)


def smooth_step(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high`, a cubic between."""
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True, eq=False)
class Canvas:
    """HU of one plane while solids are laid on it, the later over the earlier."""

    plane: Plane
    hu: Image

    def lay(self, distance: Image, hu: float | Image, window: Window | None = None) -> None:
        """Cover the inside of `distance` (given over `window`, default the whole plane) with `hu`."""
        part = self.hu if window is None else self.hu[window]
        part += coverage(distance, self.plane.pixel) * (hu - part)

    def add_tube(self, segments: Segments, hu: float, *, grow: float = 0.0, inside: Image | None = None) -> None:
        """Lay a union of round cones, grown by `grow` mm (at most 2), cut off like a solid."""
        touched = tube_distance(self.plane, segments)
        if touched is None:
            return
        window, distance = touched
        distance = distance - np.float32(grow)
        self.lay(distance if inside is None else np.maximum(distance, inside[window]), hu, window)

    def add(self, solid: Solid, hu: float, *, grow: float = 0.0, inside: Image | None = None) -> None:
        """Lay a solid, grown by `grow` mm, cut off by the distance `inside` of what it cannot leave."""
        window = solid.window(self.plane, grow)
        if window is None:
            return
        distance = solid.distance(self.plane.x[window], self.plane.y[window], self.plane.z) - np.float32(grow)
        if inside is not None:
            distance = np.maximum(distance, inside[window])
        self.lay(distance, hu, window)
