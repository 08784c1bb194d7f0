"""What lies inside the cavities: lungs with their vessels and airways, heart, great vessels and abdominal organs."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ctsr.hu import AIR
from ctsr.phantom import organs
from ctsr.phantom.organs import FAT, LIVER, ContrastPhase
from ctsr.phantom.rendering import AxialPlane, BodyTextures, Canvas, Ellipsoid, Image, Segments, membranes, smooth_min
from ctsr.phantom.trunk import HEART, Layers, TorsoBuild, layers
from ctsr.volume import Vector

Points: TypeAlias = npt.NDArray[np.float64]
"""Positions in mm; shape (n, 3)."""

_STEP = 5.0
_MURRAY = 2.7


@dataclass(frozen=True)
class Growth:
    """Calibre of a tree: radius of its twigs and maximum radius of its trunk, mm."""

    twig: float
    trunk: float


def grow_tree(root: Vector, targets: Points, growth: Growth) -> Segments:
    """Grow a tree from `root` to every target, nearest first, each from the closest existing branch.

    A branch starts along its parent's direction and bends towards the target. Radii follow Murray's law with the
    exponent 2.7 measured in lungs: a branch's radius to that power is the sum over its twigs.
    """
    targets = targets[np.argsort(np.linalg.norm(targets - np.array(root), axis=1))]
    capacity = 1 + sum(2 + int(d / _STEP) for d in np.linalg.norm(targets - np.array(root), axis=1))
    nodes, headings = np.zeros((capacity, 3)), np.zeros((capacity, 3))
    parents = np.full(capacity, -1)
    nodes[0] = root
    count = 1
    for target in targets:
        start = int(np.argmin(((nodes[:count] - target) ** 2).sum(axis=1)))
        path = _bend(nodes[start], headings[start], target)
        ends = count + len(path)
        nodes[count:ends] = path
        parents[count:ends] = [start, *range(count, ends - 1)]
        headings[count:ends] = np.diff(np.vstack([nodes[start], path]), axis=0)
        count = ends
    radii = _murray(parents[:count], growth)
    child, parent = np.arange(1, count), parents[1:count]
    return np.column_stack([nodes[parent], radii[parent].clip(None, 1.25 * radii[child]), nodes[child], radii[child]])


def _bend(start: Points, heading: Points, target: Points) -> Points:
    """Points every few mm on the quadratic Bézier curve that leaves `start` along `heading` and ends at `target`."""
    span = float(np.linalg.norm(target - start))
    length = float(np.linalg.norm(heading))
    control = start + heading * (0.4 * span / length) if length > 0 else (start + target) / 2
    t = np.linspace(0, 1, 2 + int(span / _STEP))[1:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * target


def _murray(parents: npt.NDArray[np.int_], growth: Growth) -> npt.NDArray[np.float64]:
    """Radius at every node from the number of twigs below it; every parent precedes its children."""
    twigs = np.zeros(len(parents))
    twigs[np.setdiff1d(np.arange(len(parents)), parents)] = 1
    for node in range(len(parents) - 1, 0, -1):
        twigs[parents[node]] += twigs[node]
    return (growth.twig * twigs ** (1 / _MURRAY)).clip(None, growth.trunk)


_Box: TypeAlias = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
_DistanceOf: TypeAlias = Callable[[Layers], Image]

_PULMONARY_TWIGS = 1700
_ARTERY, _VEIN, _AIRWAY = Growth(0.45, 7.0), Growth(0.45, 6.0), Growth(0.75, 4.6)
_GRID = 5.0


@dataclass(frozen=True, eq=False)
class Trees:
    """Vessels and airways of one body as round cones in the coordinates of the reference body."""

    lung_arteries: Segments
    lung_veins: Segments
    bronchi: Segments
    liver_veins: Segments

    @classmethod
    def grow(cls, rng: np.random.Generator, build: TorsoBuild) -> "Trees":
        """Grow the lungs' trees from the hila, the liver's from the portal and the hepatic veins."""
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
    """At most `count` random points in the right (−1) or left (1) lung, at least `depth` mm below its surface."""
    box = ((-135, -8) if side < 0 else (8, 135), (-95, 115), (-110, 125))
    return _scatter(rng, build, box, lambda surfaces: surfaces.lung + depth)[:count]


def liver_points(rng: np.random.Generator, build: TorsoBuild, count: int, depth: float) -> Points:
    """At most `count` random points in the right lobe of the liver, at least `depth` mm below its surface."""
    center, radii = np.array(LIVER[0].center), np.array(LIVER[0].radii)
    (x0, y0, z0), (x1, y1, z1) = (center - radii).tolist(), (center + radii).tolist()
    points = _scatter(
        rng,
        build,
        ((x0, x1), (y0, y1), (z0, z1)),
        lambda surfaces: np.maximum(surfaces.cavity, surfaces.diaphragm) + depth,
    )
    return points[(((points - center) / (radii - depth)) ** 2).sum(axis=1) < 1][:count]


def _scatter(rng: np.random.Generator, build: TorsoBuild, box: _Box, distance: _DistanceOf) -> Points:
    """Points in random order, about one per 75 mm³, where `distance` is negative within a box."""
    (left, right), (front, back), (low, high) = box
    xs, ys = np.arange(left, right, _GRID, dtype=np.float32), np.arange(front, back, _GRID, dtype=np.float32)
    x, y = np.meshgrid(xs, ys)
    found: list[Points] = []
    for z in np.arange(low, high, 3.0):
        surfaces = layers(AxialPlane(x, y, float(z), (left, front), (_GRID, _GRID)), build)
        inside = distance(surfaces) < 0
        found.append(np.column_stack([x[inside], y[inside], np.full(int(inside.sum()), z)]))
    points = np.vstack(found)
    points += rng.uniform(-_GRID / 2, _GRID / 2, points.shape)
    return points[rng.permutation(len(points))]


_BRONCHUS = 20.0
_DIAPHRAGM = 48.0
_GAS_LEVEL = -42.0


def paint_lungs(canvas: Canvas, surfaces: Layers, textures: BodyTextures, trees: Trees, phase: ContrastPhase) -> None:
    """Paint lung tissue, denser towards the back, a fissure, vessels and airways."""
    plane = canvas.plane
    canvas.paint(np.maximum(surfaces.cavity + 1, np.abs(surfaces.diaphragm) - np.float32(1.8)), _DIAPHRAGM)
    where = surfaces.lung < plane.pixel
    if not where.any():
        return
    tissue = np.zeros_like(canvas.hu)
    fissure = membranes(textures.fissure.within(plane, where) * 40, 0.55)
    tissue[where] = -872 + 0.38 * plane.y[where] + 17 * textures.lung.within(plane, where) + 190 * fissure
    canvas.paint(surfaces.lung + 0.8, tissue)
    canvas.paint_tube(trees.lung_arteries, phase.lung_arteries)
    canvas.paint_tube(trees.lung_veins, phase.arteries)
    canvas.paint_tube(trees.bronchi, _BRONCHUS, grow=0.9)
    canvas.paint_tube(trees.bronchi, AIR)


def paint_mediastinum(canvas: Canvas, phase: ContrastPhase) -> None:
    """Paint pericardium, heart, great vessels, trachea and oesophagus.

    All walls are painted before all lumina, so lumina that meet are connected.
    """
    plane = canvas.plane
    if HEART.region(plane) is not None:
        sac = HEART.distance(plane.x, plane.y, plane.z)
        canvas.paint(np.abs(sac + 1.5) - np.float32(0.7), 25)
    for vessel in organs.VESSELS:
        canvas.paint_tube(vessel.path, phase.of(vessel.wall_tissue), grow=vessel.wall)
    for vessel in organs.VESSELS:
        canvas.paint_tube(vessel.path, phase.of(vessel.tissue))
    for chamber in organs.CHAMBERS:
        canvas.paint_solid(chamber.solid, phase.myocardium, grow=chamber.wall)
    for chamber in organs.CHAMBERS:
        canvas.paint_solid(chamber.solid, phase.of(chamber.tissue))
    for muscle in organs.PAPILLARY:
        canvas.paint_solid(muscle, phase.myocardium)
    for airway in organs.AIRWAYS:
        canvas.paint_tube(airway.path, phase.of(airway.wall_tissue), grow=airway.wall)
    for airway in organs.AIRWAYS:
        canvas.paint_tube(airway.path, phase.of(airway.tissue))


def paint_abdomen(canvas: Canvas, surfaces: Layers, textures: BodyTextures, trees: Trees, phase: ContrastPhase) -> None:
    """Paint the organs below the diaphragm."""
    inside = np.maximum(surfaces.cavity + 3.5, surfaces.diaphragm + 2.2)
    where = inside < 0
    if not where.any():
        return
    fat = np.full_like(canvas.hu, FAT)
    fat[where] += 55 * membranes(textures.septa.within(canvas.plane, where), 0.06)
    canvas.paint(inside, fat)
    for vessel in organs.ABDOMINAL_TUBES:
        vessel.paint_on(canvas, phase, inside)
    for organ in organs.ABDOMEN:
        canvas.paint_solid(organ.solid, phase.of(organ.tissue), inside=inside)
    _paint_stomach_gas(canvas, inside)
    _paint_kidney_cores(canvas, phase)
    _paint_liver(canvas, inside, textures, trees, phase)


def _paint_stomach_gas(canvas: Canvas, inside: Image) -> None:
    """Paint gas in front of a horizontal level: the patient is supine."""
    region = organs.STOMACH.region(canvas.plane)
    if region is None:
        return
    y = canvas.plane.y[region]
    gas = np.maximum(organs.STOMACH.distance(canvas.plane.x[region], y, canvas.plane.z), y - np.float32(_GAS_LEVEL))
    canvas.paint(np.maximum(gas, inside[region]), AIR, region)


def _paint_kidney_cores(canvas: Canvas, phase: ContrastPhase) -> None:
    """Paint the renal pyramids around a pelvis filled with fat."""
    for kidney in organs.KIDNEYS:
        x, y, z = kidney.center
        side = math.copysign(1, x)
        for angle in range(-150, 151, 50):
            towards = math.radians(angle) + (0 if side > 0 else math.pi)
            tip = (x + 13 * math.cos(towards), y + 12 * math.sin(towards), z)
            canvas.paint_solid(Ellipsoid(tip, (7.5, 5, 40), math.degrees(towards)), phase.medulla)
        canvas.paint_solid(Ellipsoid((x - side * 7, y - 4, z), (13, 6.5, 26), kidney.turn), FAT + 10)


def _paint_liver(canvas: Canvas, inside: Image, textures: BodyTextures, trees: Trees, phase: ContrastPhase) -> None:
    """Paint liver parenchyma and its veins."""
    plane = canvas.plane
    right = LIVER[0].distance(plane.x, plane.y, plane.z)
    left = LIVER[1].distance(plane.x, plane.y, plane.z)
    liver = np.maximum(smooth_min(right, left, 16), inside)
    where = liver < plane.pixel
    if not where.any():
        return
    tissue = np.zeros_like(canvas.hu)
    tissue[where] = phase.liver + 2.5 * textures.soft.within(plane, where)
    canvas.paint(liver, tissue)
    canvas.paint_tube(trees.liver_veins, phase.portal, inside=liver + 3)
    organs.INFERIOR_CAVA.paint_on(canvas, phase)
