"""The trunk as nested surfaces: the rib cage's cavity, the wall of muscle around it, fat, skin, and the diaphragm.

All lengths are mm in the reference body, whose z = 0 lies in the middle of the heart. x grows to the patient's left,
y to the back, z to the head.
"""

from dataclasses import dataclass

import numpy as np

from ctsr.demo.shapes import Ellipsoid, Image, Plane, coverage, smooth_max, smooth_min, smooth_step

__all__ = ["HEART", "Layers", "TorsoBuild", "cavity_axes", "layers", "outlines"]

HEART = Ellipsoid((24, -24, 0), (64, 43, 54), -32)
"""The heart with its fat and pericardium."""


@dataclass(frozen=True)
class TorsoBuild:
    """What makes one trunk differ from another, apart from its size."""

    fat: float
    """Mean thickness of the fat under the skin, mm."""
    breast: float
    """How far the breasts stand out, mm."""


@dataclass(frozen=True, eq=False)
class Layers:
    """Signed distances in mm (negative inside) to the surfaces of a trunk, each over a whole plane."""

    cavity: Image
    """The inner face of the ribs."""
    wall: Image
    """The outer face of the muscles."""
    skin: Image
    diaphragm: Image
    """Negative below it."""
    lung: Image
    """Inside either lung."""


def cavity_axes(z: float) -> tuple[float, float, float]:
    """Half-width, half-depth and the y of the centre of the cavity at a height."""
    up, down = max(z + 10, 0.0), max(-z - 40, 0.0)
    return 134 - 0.0026 * up**2 - 0.0006 * down**2, 88 - 0.0019 * up**2 - 0.0004 * down**2, 0.0013 * up**2


def layers(plane: Plane, build: TorsoBuild) -> Layers:
    """All surfaces at the height of `plane`."""
    cage, wall, skin = outlines(plane, build)
    cavity = smooth_max(cage, -_spine_bulge(plane.x, plane.y), 12)
    diaphragm = _diaphragm(plane)
    lung = smooth_max(smooth_max(cavity + 2, -_mediastinum(plane), 5), -diaphragm - 1, 4)
    return Layers(cavity, wall, skin, diaphragm, lung)


def outlines(plane: Plane, build: TorsoBuild) -> tuple[Image, Image, Image]:
    """Distances to the rib cage's inner face, to the muscles' outer face and to the skin, measured along rays, mm."""
    half_width, half_depth, centre = cavity_axes(plane.z)
    x, y = plane.x, plane.y - np.float32(centre)
    radius = np.sqrt(x * x + y * y) + np.float32(1e-3)
    side, back = x / radius, y / radius
    cage = radius - radius / _superellipse(x, y, half_width, half_depth)
    wall = cage - _wall_thickness(side, back, plane.z)
    return cage, wall, wall - _fat_thickness(plane, side, back, build)


def _superellipse(x: Image, y: Image, half_width: float, half_depth: float) -> Image:
    """1 on the outline, growing linearly along every ray; exponent 2.25, a little fuller than an ellipse."""
    a, b = np.abs(x) * np.float32(1 / half_width), np.abs(y) * np.float32(1 / half_depth)
    return np.power(a * a * np.sqrt(np.sqrt(a)) + b * b * np.sqrt(np.sqrt(b)) + np.float32(1e-9), np.float32(1 / 2.25))


def _wall_thickness(side: Image, back: Image, z: float) -> Image:
    """Ribs and muscles: thick beside the spine, and towards the shoulders at the back, the chest and the armpits."""
    shoulder, loin = smooth_step(z, 5, 75), smooth_step(-z, 60, 120)
    behind, ahead = back.clip(0, None), (-back).clip(0, None)
    sideways = side * side
    base = 13 + 5 * sideways + 24 * behind**2 * (1 + 0.25 * loin) - 4 * behind**12
    return base + shoulder * (20 * sideways * (0.35 + behind) + 34 * ahead * sideways * ahead)


def _fat_thickness(plane: Plane, side: Image, back: Image, build: TorsoBuild) -> Image:
    """The layer under the skin: least over the spine, more at the flanks and on the belly, and the breasts."""
    belly, flank = smooth_step(-plane.z, 30, 110), side * side
    ahead = (-back).clip(0, 1)
    thickness = build.fat * (0.55 + 0.75 * flank + belly * (0.35 * ahead + 0.3 * flank) - 0.25 * back.clip(0, 1) ** 8)
    if build.breast > 0:
        across = (np.abs(plane.x) - 78) * np.float32(1 / 42)
        bump = np.exp(-(across * across) - np.float32(((plane.z - 12) / 46) ** 2)) * coverage(back, 0.5)
        thickness = thickness + np.float32(build.breast) * bump
    return thickness.astype(np.float32)


def _spine_bulge(x: Image, y: Image) -> Image:
    """The vertebral column pushes into the cavity from behind and leaves a gutter for the lung on either side."""
    return np.sqrt(x * x + (np.float32(0.55) * (y - np.float32(92))).clip(None, 0) ** 2) - np.float32(21)


def _diaphragm(plane: Plane) -> Image:
    """Two domes, the right one higher, joined below the heart; falls off steeply towards the ribs."""
    x, y = plane.x, plane.y
    right = -26 - 112 * (((x + 64) / 118) ** 2 + ((y + 12) / 104) ** 2)
    left = -42 - 104 * (((x - 66) / 112) ** 2 + ((y + 8) / 102) ** 2)
    middle = -47 - 90 * ((x / 70) ** 2 + ((y + 40) / 60) ** 2)
    top = smooth_max(smooth_max(right, left, 14), middle, 20).clip(-190, None)
    slope_y, slope_x = np.gradient(top, plane.step[1], plane.step[0])
    return ((plane.z - top) / np.sqrt(1 + slope_x**2 + slope_y**2)).astype(np.float32)


def _mediastinum(plane: Plane) -> Image:
    """What lies between the lungs: the heart, the great vessels and the spine, wrapped in fat."""
    x, y, z = plane.x, plane.y, plane.z
    _, half_depth, centre = cavity_axes(z)
    arch = smooth_step(z, 20, 80)
    core = Ellipsoid((2 - 2 * arch, centre + 8, z), (25 + 12 * arch, half_depth + 6, 100))
    distance = smooth_min(core.distance(x, y, z), Ellipsoid((-22, -22, 0), (26, 33, 48)).distance(x, y, z), 8)
    if HEART.window(plane) is not None:
        distance = smooth_min(distance, HEART.distance(x, y, z), 9)
    hilum = Ellipsoid((0, 4, 36), (58, 17, 30))
    if hilum.window(plane) is not None:
        distance = smooth_min(distance, hilum.distance(x, y, z), 8)
    aorta = Ellipsoid((21, 46, z), (15.5, 16, 100))
    return smooth_min(distance, aorta.distance(x, y, z), 5)
