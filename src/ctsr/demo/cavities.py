"""What lies inside: the lungs with their trees, the heart and great vessels, and the organs below the diaphragm."""

import math

import numpy as np

from ctsr.demo import organs
from ctsr.demo.organs import FAT, Phase
from ctsr.demo.shapes import Canvas, Ellipsoid, Image, smooth_min
from ctsr.demo.texture import BodyTextures, sheets
from ctsr.demo.torso import HEART, Layers
from ctsr.demo.trees import Trees
from ctsr.hu import AIR

__all__ = ["lay_abdomen", "lay_lungs", "lay_mediastinum"]

_BRONCHUS = 20.0
_DIAPHRAGM = 48.0
_GAS_LEVEL = -42.0


def lay_lungs(canvas: Canvas, surfaces: Layers, textures: BodyTextures, trees: Trees, phase: Phase) -> None:
    """Air with a little tissue, denser towards the back, a fissure, and the branching vessels and airways."""
    plane = canvas.plane
    canvas.lay(np.maximum(surfaces.cavity + 1, np.abs(surfaces.diaphragm) - np.float32(1.8)), _DIAPHRAGM)
    where = surfaces.lung < plane.pixel
    if not where.any():
        return
    tissue = np.zeros_like(canvas.hu)
    fissure = sheets(textures.fissure.within(plane, where) * 40, 0.55)
    tissue[where] = -872 + 0.38 * plane.y[where] + 17 * textures.lung.within(plane, where) + 190 * fissure
    canvas.lay(surfaces.lung + 0.8, tissue)
    canvas.add_tube(trees.lung_arteries, phase.lung_arteries)
    canvas.add_tube(trees.lung_veins, phase.arteries)
    canvas.add_tube(trees.bronchi, _BRONCHUS, grow=0.9)
    canvas.add_tube(trees.bronchi, AIR)


def lay_mediastinum(canvas: Canvas, phase: Phase) -> None:
    """The heart in its sac, the great vessels, the windpipe and the gullet; walls that meet open into each other."""
    plane = canvas.plane
    if HEART.window(plane) is not None:
        sac = HEART.distance(plane.x, plane.y, plane.z)
        canvas.lay(np.abs(sac + 1.5) - np.float32(0.7), 25)
    for vessel in organs.VESSELS:
        canvas.add_tube(vessel.path, phase.of(vessel.wall_tissue), grow=vessel.wall)
    for vessel in organs.VESSELS:
        canvas.add_tube(vessel.path, phase.of(vessel.tissue))
    for chamber in organs.CHAMBERS:
        canvas.add(chamber.solid, phase.myocardium, grow=chamber.wall)
    for chamber in organs.CHAMBERS:
        canvas.add(chamber.solid, phase.of(chamber.tissue))
    for muscle in organs.PAPILLARY:
        canvas.add(muscle, phase.myocardium)
    for airway in organs.AIRWAYS:
        canvas.add_tube(airway.path, phase.of(airway.wall_tissue), grow=airway.wall)
    for airway in organs.AIRWAYS:
        canvas.add_tube(airway.path, phase.of(airway.tissue))


def lay_abdomen(canvas: Canvas, surfaces: Layers, textures: BodyTextures, trees: Trees, phase: Phase) -> None:
    """Everything below the diaphragm."""
    inside = np.maximum(surfaces.cavity + 3.5, surfaces.diaphragm + 2.2)
    where = inside < 0
    if not where.any():
        return
    fat = np.full_like(canvas.hu, FAT)
    fat[where] += 55 * sheets(textures.septa.within(canvas.plane, where), 0.06)
    canvas.lay(inside, fat)
    for vessel in organs.ABDOMINAL_TUBES:
        vessel.lay_on(canvas, phase, inside)
    for organ in organs.ABDOMEN:
        canvas.add(organ.solid, phase.of(organ.tissue), inside=inside)
    _lay_stomach_gas(canvas, inside)
    _lay_kidney_cores(canvas, phase)
    _lay_liver(canvas, inside, textures, trees, phase)


def _lay_stomach_gas(canvas: Canvas, inside: Image) -> None:
    """The patient lies on the back: gas collects in front, above a level."""
    window = organs.STOMACH.window(canvas.plane)
    if window is None:
        return
    y = canvas.plane.y[window]
    gas = np.maximum(organs.STOMACH.distance(canvas.plane.x[window], y, canvas.plane.z), y - np.float32(_GAS_LEVEL))
    canvas.lay(np.maximum(gas, inside[window]), AIR, window)


def _lay_kidney_cores(canvas: Canvas, phase: Phase) -> None:
    """Pyramids around a pelvis filled with fat."""
    for kidney in organs.KIDNEYS:
        x, y, z = kidney.center
        side = math.copysign(1, x)
        for angle in range(-150, 151, 50):
            towards = math.radians(angle) + (0 if side > 0 else math.pi)
            tip = (x + 13 * math.cos(towards), y + 12 * math.sin(towards), z)
            canvas.add(Ellipsoid(tip, (7.5, 5, 40), math.degrees(towards)), phase.medulla)
        canvas.add(Ellipsoid((x - side * 7, y - 4, z), (13, 6.5, 26), kidney.turn), FAT + 10)


def _lay_liver(canvas: Canvas, inside: Image, textures: BodyTextures, trees: Trees, phase: Phase) -> None:
    """Parenchyma with veins branching in it."""
    plane = canvas.plane
    right, left = (lobe.distance(plane.x, plane.y, plane.z) for lobe in organs.LIVER)
    liver = np.maximum(smooth_min(right, left, 16), inside)
    where = liver < plane.pixel
    if not where.any():
        return
    tissue = np.zeros_like(canvas.hu)
    tissue[where] = phase.liver + 2.5 * textures.soft.within(plane, where)
    canvas.lay(liver, tissue)
    canvas.add_tube(trees.liver_veins, phase.portal, inside=liver + 3)
    organs.INFERIOR_CAVA.lay_on(canvas, phase)
