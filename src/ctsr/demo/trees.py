"""The branching trees of one body, grown into the lungs and the liver that its torso leaves room for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ctsr.demo.organs import LIVER
from ctsr.demo.shapes import Image, Plane, Segments
from ctsr.demo.torso import Layers, TorsoBuild, layers
from ctsr.demo.vessels import Growth, Points, grow_tree

__all__ = ["Trees", "liver_points", "lung_points"]

_Box: TypeAlias = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
_DistanceOf: TypeAlias = Callable[[Layers], Image]

_PULMONARY_TWIGS = 1700
_ARTERY, _VEIN, _AIRWAY = Growth(0.45, 7.0), Growth(0.45, 6.0), Growth(0.75, 4.6)
_GRID = 5.0


@dataclass(frozen=True, eq=False)
class Trees:
    """Round cones in the frame of the reference body."""

    lung_arteries: Segments
    lung_veins: Segments
    bronchi: Segments
    liver_veins: Segments

    @classmethod
    def grow(cls, rng: np.random.Generator, build: TorsoBuild) -> "Trees":
        """Both lungs' trees from the hila, the liver's from the portal vein below and the hepatic veins above."""
        arteries: list[Segments] = []
        veins: list[Segments] = []
        bronchi: list[Segments] = []
        for side in (-1, 1):
            everywhere = lung_points(rng, build, side, 2 * _PULMONARY_TWIGS, depth=2.5)
            arteries.append(grow_tree((side * 58, 2, 38), everywhere[:_PULMONARY_TWIGS], _ARTERY))
            veins.append(grow_tree((side * 58, 12, 14), everywhere[_PULMONARY_TWIGS:], _VEIN))
            bronchi.append(grow_tree((side * 43, 17, 28), lung_points(rng, build, side, 90, depth=14), _AIRWAY))
        portal = grow_tree((-22, -2, -100), liver_points(rng, build, 130, depth=8), Growth(0.9, 5.5))
        hepatic = grow_tree((-24, 2, -52), liver_points(rng, build, 110, depth=8), Growth(0.9, 5.0))
        return cls(np.vstack(arteries), np.vstack(veins), np.vstack(bronchi), np.vstack([portal, hepatic]))


def lung_points(rng: np.random.Generator, build: TorsoBuild, side: int, count: int, depth: float) -> Points:
    """At most `count` points spread evenly in the right (−1) or left (1) lung, `depth` mm below its surface."""
    box = ((-135, -8) if side < 0 else (8, 135), (-95, 115), (-110, 125))
    return _scatter(rng, build, box, lambda surfaces: surfaces.lung + depth)[:count]


def liver_points(rng: np.random.Generator, build: TorsoBuild, count: int, depth: float) -> Points:
    """At most `count` points spread evenly in the liver's right lobe, `depth` mm below its surface."""
    center, radii = np.array(LIVER[0].center), np.array(LIVER[0].radii)
    x, y, z = ((float(a), float(b)) for a, b in zip(center - radii, center + radii, strict=True))
    points = _scatter(rng, build, (x, y, z), lambda surfaces: np.maximum(surfaces.cavity, surfaces.diaphragm) + depth)
    return points[(((points - center) / (radii - depth)) ** 2).sum(axis=1) < 1][:count]


def _scatter(rng: np.random.Generator, build: TorsoBuild, box: _Box, distance: _DistanceOf) -> Points:
    """Points in random order, about one per 75 mm³, wherever `distance` is negative in a box."""
    (left, right), (front, back), (low, high) = box
    xs, ys = np.arange(left, right, _GRID, dtype=np.float32), np.arange(front, back, _GRID, dtype=np.float32)
    x, y = np.meshgrid(xs, ys)
    found: list[Points] = []
    for z in np.arange(low, high, 3.0):
        surfaces = layers(Plane(x, y, float(z), (left, front), (_GRID, _GRID)), build)
        inside = distance(surfaces) < 0
        found.append(np.column_stack([x[inside], y[inside], np.full(int(inside.sum()), z)]))
    points = np.vstack(found)
    points += rng.uniform(-_GRID / 2, _GRID / 2, points.shape)
    return points[rng.permutation(len(points))]
