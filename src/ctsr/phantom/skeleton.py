"""Bones of the trunk in the reference body, in mm: compact bone around trabecular bone."""

from dataclasses import dataclass

import numpy as np

from ctsr.phantom.geometry import (
    Canvas,
    Ellipsoid,
    Image,
    RandomField,
    Region,
    Segments,
    membranes,
    smooth_max,
    smooth_step,
    tube,
    tube_distance,
)
from ctsr.phantom.trunk import Layers, cavity_axes

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
