"""The trunk: surfaces of cavity, muscle, skin, diaphragm and lungs, the tissues around the cavities, and bones.

All lengths are mm in the reference body, whose z = 0 lies in the middle of the heart. x grows to the patient's left,
y to the back, z to the head.
"""

from dataclasses import dataclass

import numpy as np

from ctsr.phantom.organs import FAT, MUSCLE
from ctsr.phantom.rendering import (
    AxialPlane,
    BodyTextures,
    Canvas,
    Ellipsoid,
    Image,
    RandomField,
    Region,
    Segments,
    coverage,
    membranes,
    smooth_max,
    smooth_min,
    smooth_step,
    tube,
    tube_distance,
)

HEART = Ellipsoid((24, -24, 0), (64, 43, 54), -32)
"""The heart with its fat and pericardium."""

_SKIN = 25.0
_SKIN_THICKNESS = 1.7

LEVEL_STEP = 26.0
"""mm from one vertebra, and from one rib, to the next."""

SPINE_Y = 64.0
"""y of the centres of the vertebral bodies, mm."""

_CORTEX = 820.0
_CANAL = (0.0, 85.0)
_RIB_Z = 6.0
_RIB_LOWEST = -126.0
# A rib's angle from the spine (0) to the sternum (π), and its descent at that angle, mm.
_RIB_ANGLES = (0.3, 1.2, 2.3, 2.95)
_RIB_DROP = (0.0, 30.0, 80.0, 54.0)
_CARTILAGE_ANGLE = 2.25


@dataclass(frozen=True)
class TorsoBuild:
    """Individual build of a trunk, apart from its size."""

    fat: float
    """Mean thickness of the fat under the skin, mm."""
    breast: float
    """Protrusion of the breasts, mm; 0 for none."""


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


def layers(plane: AxialPlane, build: TorsoBuild) -> Layers:
    """All surfaces at the height of `plane`."""
    cage, wall, skin = outlines(plane, build)
    cavity = smooth_max(cage, -_spine_bulge(plane.x, plane.y), 12)
    diaphragm = _diaphragm(plane)
    lung = smooth_max(smooth_max(cavity + 2, -_mediastinum(plane), 5), -diaphragm - 1, 4)
    return Layers(cavity, wall, skin, diaphragm, lung)


def outlines(plane: AxialPlane, build: TorsoBuild) -> tuple[Image, Image, Image]:
    """Distances to the rib cage's inner face, to the muscles' outer face and to the skin, measured along rays, mm."""
    half_width, half_depth, centre = cavity_axes(plane.z)
    x, y = plane.x, plane.y - np.float32(centre)
    radius = np.sqrt(x * x + y * y) + np.float32(1e-3)
    side, back = x / radius, y / radius
    cage = radius - radius / _superellipse(x, y, half_width, half_depth)
    wall = cage - _wall_thickness(side, back, plane.z)
    return cage, wall, wall - _fat_thickness(plane, side, back, build)


def paint_trunk(canvas: Canvas, surfaces: Layers, textures: BodyTextures, build: TorsoBuild) -> None:
    """Paint skin, fat, muscle and pleura; the cavity is filled with fat."""
    canvas.paint(surfaces.skin, _SKIN)
    fat = _fat(canvas, surfaces, textures)
    if build.breast > 0:
        _add_glands(fat, canvas, surfaces, textures)
    canvas.paint(surfaces.skin + _SKIN_THICKNESS, fat)
    muscle = _muscle(canvas, surfaces, textures)
    canvas.paint(surfaces.wall, muscle)
    _paint_back_muscles(canvas, surfaces, muscle)
    canvas.paint(surfaces.cavity, 45)
    canvas.paint(surfaces.cavity + 1.5, _inner_fat(canvas, surfaces, textures))


def _posterior_elements() -> Segments:
    """Pedicles, laminae, spinous and transverse processes, and the necks of the ribs, of all vertebrae."""
    pieces: list[Segments] = []
    for level in range(-8, 7):
        z = level * LEVEL_STEP
        pieces.append(tube((0, 98, z - 3, 3.6), (0, 108, z - 10, 2.6), (0, 118, z - 16, 3.4)))
        for side in (-1, 1):
            pieces += [
                tube((side * 12, 72, z + 4, 4.2), (side * 12.5, 87, z + 3, 4.4)),
                tube((side * 12.5, 87, z + 3, 3.6), (side * 9, 95, z - 2, 3.0), (0, 99, z - 5, 3.2)),
                tube((side * 9, 94, z - 3, 2.8), (side * 6, 97, z - 9, 2.4)),
                tube((side * 12.5, 87, z + 2, 3.8), (side * 22, 92, z + 3, 3.2), (side * 34, 98, z + 5, 3.9)),
            ]
            if z + _RIB_Z > _RIB_LOWEST:
                pieces.append(tube((side * 18, 76, z + 7, 4.2), (side * 26, 84, z + 8, 3.4), (side * 38, 92, z + 5, 4)))
    return np.vstack(pieces)


_POSTERIOR_ELEMENTS = _posterior_elements()


@dataclass(frozen=True, eq=False)
class Skeleton:
    """The bones of one body: shapes are common to all bodies, trabecular structure is individual."""

    struts: RandomField
    marrow: RandomField
    density: float
    """Mean HU of trabecular bone: about 250 at age thirty, 120 at eighty."""

    @classmethod
    def draw(cls, rng: np.random.Generator, density: float) -> "Skeleton":
        """Draw trabeculae one or two millimetres apart, elongated along the load."""
        struts = RandomField.draw(rng, (2.2, 5.0), stretch=(1, 1, 1.6), waves=28)
        return cls(struts, RandomField.draw(rng, (9, 30), waves=10), density)

    def paint_on(self, canvas: Canvas, layers: Layers) -> None:
        """Paint all bones that the plane meets."""
        self._ribs(canvas, layers)
        self._scapulae(canvas)
        self._sternum(canvas)
        self._spine(canvas)

    def _bone(self, canvas: Canvas, distance: Image, region: Region | None, shell: float) -> None:
        """Paint a bone: `shell` mm of compact bone around trabecular bone."""
        where = np.s_[:, :] if region is None else region
        canvas.paint(distance, _CORTEX, region)
        inner = distance + np.float32(shell)
        core = inner < canvas.plane.pixel
        if not core.any():
            return
        x, y = canvas.plane.x[where][core], canvas.plane.y[where][core]
        strut = membranes(self.struts(x, y, canvas.plane.z), 0.55)
        spongy = np.zeros_like(distance)
        spongy[core] = self.density * (0.3 + 1.75 * strut) * (1 + 0.22 * self.marrow(x, y, canvas.plane.z))
        canvas.paint(inner, spongy, region)

    def _spine(self, canvas: Canvas) -> None:
        plane = canvas.plane
        region = plane.box_region((-48, 48), (40, 135))
        if region is None:
            return
        x, y = plane.x[region], plane.y[region]
        z = (plane.z + LEVEL_STEP / 2) % LEVEL_STEP - LEVEL_STEP / 2
        canal = np.hypot(x - np.float32(_CANAL[0]), y - np.float32(_CANAL[1]))
        posterior = tube_distance(plane, _POSTERIOR_ELEMENTS)
        if posterior is not None:
            self._bone(canvas, posterior[1], posterior[0], 1.3)
        waist = 0.9 + 0.1 * (z / 10) ** 2
        column = Ellipsoid((0, SPINE_Y, 0), (17.5 * waist, 14.5 * waist, 1000)).distance(x, y, 0)
        column = smooth_max(column, 10 - canal, 3)
        canvas.paint(column, 85, region)
        canvas.paint(column + 6, 70, region)
        body = smooth_max(column, np.full_like(x, abs(z) - 10), 3)
        self._bone(canvas, body, region, 1.2)
        canvas.paint(canal - np.float32(8.2), -30, region)
        canvas.paint(canal - np.float32(6.8), 8, region)
        canvas.paint(Ellipsoid((0, _CANAL[1], 0), (4.6, 3.6, 1000)).distance(x, y, 0), 42, region)

    def _ribs(self, canvas: Canvas, layers: Layers) -> None:
        plane = canvas.plane
        shell = np.nonzero((layers.cavity > -2) & (layers.cavity < 15))
        x, y = plane.x[shell], plane.y[shell]
        angle = np.arctan2(np.abs(x), y - np.float32(cavity_axes(plane.z)[2]))
        height = plane.z - _RIB_Z + np.interp(angle, _RIB_ANGLES, _RIB_DROP)
        level = np.round(height / LEVEL_STEP) * LEVEL_STEP
        depth = (layers.cavity[shell] - 6.2) / 3.9
        across = (height - level) * 0.93 / 7.0
        size = np.sqrt(depth**2 + across**2)
        end = np.interp(level + _RIB_Z, (_RIB_LOWEST, _RIB_LOWEST + 26, -72, -44), (1.2, 1.8, 2.3, 2.9))
        missing = (angle < 0.36) | (angle > end) | (level + _RIB_Z < _RIB_LOWEST)
        rib = np.full(plane.x.shape, 50, dtype=np.float32)
        rib[shell] = np.where(missing, 50, (size - 1) * 4.4)
        cartilage = np.full(plane.x.shape, 50, dtype=np.float32)
        cartilage[shell] = np.where(angle > _CARTILAGE_ANGLE, rib[shell], 50)
        self._bone(canvas, np.where(cartilage < 50, 50, rib).astype(np.float32), None, 1.15)
        canvas.paint(cartilage, 125)

    def _scapulae(self, canvas: Canvas) -> None:
        for side in (-1, 1):
            for blade in (
                Ellipsoid((side * 104, 62, 96), (32, 4.4, 66), -side * 44),
                Ellipsoid((side * 110, 66, 112), (17, 4.0, 32), side * 8),
            ):
                region = blade.region(canvas.plane)
                if region is not None:
                    distance = blade.distance(canvas.plane.x[region], canvas.plane.y[region], canvas.plane.z)
                    self._bone(canvas, distance, region, 1.2)

    def _sternum(self, canvas: Canvas) -> None:
        z = canvas.plane.z
        if z < -30:
            return
        _, half_depth, centre = cavity_axes(z)
        width = 15 + 9 * smooth_step(z, 45, 75) - 6 * smooth_step(-z, 10, 30)
        plate = Ellipsoid((0, centre - half_depth - 5.5, z), (width, 5.6, 1000))
        region = plate.region(canvas.plane)
        if region is not None:
            distance = plate.distance(canvas.plane.x[region], canvas.plane.y[region], z)
            self._bone(canvas, distance, region, 1.1)


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


def _fat_thickness(plane: AxialPlane, side: Image, back: Image, build: TorsoBuild) -> Image:
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
    """The vertebral column, which protrudes into the cavity and leaves a gutter for the lung on either side."""
    return np.sqrt(x * x + (np.float32(0.55) * (y - np.float32(92))).clip(None, 0) ** 2) - np.float32(21)


def _diaphragm(plane: AxialPlane) -> Image:
    """Two domes, the right one higher, joined below the heart and steep towards the ribs."""
    x, y = plane.x, plane.y
    right = -26 - 112 * (((x + 64) / 118) ** 2 + ((y + 12) / 104) ** 2)
    left = -42 - 104 * (((x - 66) / 112) ** 2 + ((y + 8) / 102) ** 2)
    middle = -47 - 90 * ((x / 70) ** 2 + ((y + 40) / 60) ** 2)
    top = smooth_max(smooth_max(right, left, 14), middle, 20).clip(-190, None)
    slope_y, slope_x = np.gradient(top, plane.step[1], plane.step[0])
    return ((plane.z - top) / np.sqrt(1 + slope_x**2 + slope_y**2)).astype(np.float32)


def _mediastinum(plane: AxialPlane) -> Image:
    """The space between the lungs: heart, great vessels and spine, embedded in fat."""
    x, y, z = plane.x, plane.y, plane.z
    _, half_depth, centre = cavity_axes(z)
    arch = smooth_step(z, 20, 80)
    core = Ellipsoid((2 - 2 * arch, centre + 8, z), (25 + 12 * arch, half_depth + 6, 100))
    distance = smooth_min(core.distance(x, y, z), Ellipsoid((-22, -22, 0), (26, 33, 48)).distance(x, y, z), 8)
    if HEART.region(plane) is not None:
        distance = smooth_min(distance, HEART.distance(x, y, z), 9)
    hilum = Ellipsoid((0, 4, 36), (58, 17, 30))
    if hilum.region(plane) is not None:
        distance = smooth_min(distance, hilum.distance(x, y, z), 8)
    aorta = Ellipsoid((21, 46, z), (15.5, 16, 100))
    return smooth_min(distance, aorta.distance(x, y, z), 5)


def _fat(canvas: Canvas, surfaces: Layers, textures: BodyTextures) -> Image:
    """Fat with incomplete septa of connective tissue."""
    fat = np.full_like(canvas.hu, FAT)
    where = (surfaces.skin < 0) & (surfaces.wall > -1)
    present = coverage(-textures.septa_gaps.within(canvas.plane, where), 1.5)
    fat[where] += 62 * present * membranes(textures.septa.within(canvas.plane, where), 0.09)
    return fat


def _add_glands(fat: Image, canvas: Canvas, surfaces: Layers, textures: BodyTextures) -> None:
    """Add glandular tissue, streaked with fat, in the breasts."""
    plane = canvas.plane
    for side in (-1, 1):
        gland = Ellipsoid((side * 80, -108, 10), (34, 24, 34))
        inside = np.maximum(gland.distance(plane.x, plane.y, plane.z), 4 - surfaces.wall)
        where = inside < 0
        lobes = coverage(textures.gland.within(plane, where) - np.float32(0.3), 0.9)
        fat[where] += 130 * lobes * (-inside[where] / 10).clip(0, 1)


def _muscle(canvas: Canvas, surfaces: Layers, textures: BodyTextures) -> Image:
    """Muscle with marbling and the fat plane between intercostal and superficial muscles."""
    muscle = np.full_like(canvas.hu, MUSCLE)
    where = (surfaces.wall < 1) & (surfaces.cavity > -3)
    streaks = membranes(textures.marbling.within(canvas.plane, where), 0.11)
    uneven = textures.septa_gaps.within(canvas.plane, where)
    depth = (surfaces.cavity[where] - 13.5 - 2.5 * uneven) / (0.7 + 0.9 * coverage(uneven - np.float32(0.6), 1))
    between = np.exp(-(depth**2))
    muscle[where] += 5 * textures.soft.within(canvas.plane, where) - 110 * np.maximum(0.75 * streaks, between)
    return muscle


def _inner_fat(canvas: Canvas, surfaces: Layers, textures: BodyTextures) -> Image:
    """Mediastinal fat with strands and small lymph nodes."""
    fat = np.full_like(canvas.hu, FAT + 6)
    where = (surfaces.cavity < 0) & (surfaces.lung > -1) & (surfaces.diaphragm > -2)
    strands = membranes(textures.septa.within(canvas.plane, where), 0.07)
    nodes = coverage(np.float32(2.1) - textures.gland.within(canvas.plane, where), 0.5)
    fat[where] += np.maximum(60 * strands, 135 * nodes) + 5 * textures.soft.within(canvas.plane, where)
    return fat


def _paint_back_muscles(canvas: Canvas, surfaces: Layers, muscle: Image) -> None:
    """Paint the erector spinae muscles, each in a sheath of fat."""
    plane = canvas.plane
    for side in (-1, 1):
        column = Ellipsoid((side * 31, 105, plane.z), (25, 15.5, 1000), side * 12)
        region = column.region(plane, grow=1.3)
        if region is None:
            continue
        distance = column.distance(plane.x[region], plane.y[region], plane.z)
        canvas.paint(np.maximum(distance - np.float32(1.3), surfaces.wall[region] + 1), FAT + 20, region)
        belly = MUSCLE + np.float32(0.55) * (muscle[region] - MUSCLE)
        canvas.paint(np.maximum(distance, surfaces.wall[region] + 3), belly, region)
