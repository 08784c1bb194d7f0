"""What lies around the cavities: skin, fat with its septa, breasts, muscles with the fat between them."""

import numpy as np

from ctsr.demo.organs import FAT, MUSCLE
from ctsr.demo.shapes import Canvas, Ellipsoid, Image, coverage
from ctsr.demo.texture import BodyTextures, sheets
from ctsr.demo.torso import Layers, TorsoBuild

__all__ = ["lay_trunk"]

_SKIN = 25.0
_SKIN_THICKNESS = 1.7


def lay_trunk(canvas: Canvas, surfaces: Layers, textures: BodyTextures, build: TorsoBuild) -> None:
    """Everything from the skin to the lining of the cavity, which is left filled with fat."""
    canvas.lay(surfaces.skin, _SKIN)
    fat = _fat(canvas, surfaces, textures)
    if build.breast > 0:
        _add_glands(fat, canvas, surfaces, textures)
    canvas.lay(surfaces.skin + _SKIN_THICKNESS, fat)
    muscle = _muscle(canvas, surfaces, textures)
    canvas.lay(surfaces.wall, muscle)
    _lay_back_muscles(canvas, surfaces, muscle)
    canvas.lay(surfaces.cavity, 45)
    canvas.lay(surfaces.cavity + 1.5, _inner_fat(canvas, surfaces, textures))


def _fat(canvas: Canvas, surfaces: Layers, textures: BodyTextures) -> Image:
    """Fat crossed by membranes of connective tissue that come and go."""
    fat = np.full_like(canvas.hu, FAT)
    where = (surfaces.skin < 0) & (surfaces.wall > -1)
    present = coverage(-textures.septa_gaps.within(canvas.plane, where), 1.5)
    fat[where] += 62 * present * sheets(textures.septa.within(canvas.plane, where), 0.09)
    return fat


def _add_glands(fat: Image, canvas: Canvas, surfaces: Layers, textures: BodyTextures) -> None:
    """Glandular tissue in the depth of the breasts, streaked with fat."""
    plane = canvas.plane
    for side in (-1, 1):
        gland = Ellipsoid((side * 80, -108, 10), (34, 24, 34))
        inside = np.maximum(gland.distance(plane.x, plane.y, plane.z), 4 - surfaces.wall)
        where = inside < 0
        lobes = coverage(textures.gland.within(plane, where) - np.float32(0.3), 0.9)
        fat[where] += 130 * lobes * (-inside[where] / 10).clip(0, 1)


def _muscle(canvas: Canvas, surfaces: Layers, textures: BodyTextures) -> Image:
    """Muscle with marbling, and the layer of fat that parts the muscles of the ribs from those outside them."""
    muscle = np.full_like(canvas.hu, MUSCLE)
    where = (surfaces.wall < 1) & (surfaces.cavity > -3)
    streaks = sheets(textures.marbling.within(canvas.plane, where), 0.11)
    uneven = textures.septa_gaps.within(canvas.plane, where)
    depth = (surfaces.cavity[where] - 13.5 - 2.5 * uneven) / (0.7 + 0.9 * coverage(uneven - np.float32(0.6), 1))
    between = np.exp(-(depth**2))
    muscle[where] += 5 * textures.soft.within(canvas.plane, where) - 110 * np.maximum(0.75 * streaks, between)
    return muscle


def _inner_fat(canvas: Canvas, surfaces: Layers, textures: BodyTextures) -> Image:
    """The fat between the lungs, with strands and small nodes."""
    fat = np.full_like(canvas.hu, FAT + 6)
    where = (surfaces.cavity < 0) & (surfaces.lung > -1) & (surfaces.diaphragm > -2)
    strands = sheets(textures.septa.within(canvas.plane, where), 0.07)
    nodes = coverage(np.float32(2.1) - textures.gland.within(canvas.plane, where), 0.5)
    fat[where] += np.maximum(60 * strands, 135 * nodes) + 5 * textures.soft.within(canvas.plane, where)
    return fat


def _lay_back_muscles(canvas: Canvas, surfaces: Layers, muscle: Image) -> None:
    """The two columns beside the spine, each in its sheath of fat."""
    plane = canvas.plane
    for side in (-1, 1):
        column = Ellipsoid((side * 31, 105, plane.z), (25, 15.5, 1000), side * 12)
        window = column.window(plane, grow=1.3)
        if window is None:
            continue
        distance = column.distance(plane.x[window], plane.y[window], plane.z)
        canvas.lay(np.maximum(distance - np.float32(1.3), surfaces.wall[window] + 1), FAT + 20, window)
        belly = MUSCLE + np.float32(0.55) * (muscle[window] - MUSCLE)
        canvas.lay(np.maximum(distance, surfaces.wall[window] + 3), belly, window)
