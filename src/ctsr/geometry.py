"""Where slices lie: along their normal, beside it, and how evenly."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctsr.volume import Orientation, Vector

ORTHONORMAL_WITHIN = 1e-2
UNIT_WITHIN = 1e-4
"""Deviation from orthonormal that writing cosines with few digits makes; more is corrected."""
PIXEL_MM = (0.01, 10.0)
"""Plausible distances between pixels: from micro-CT to the coarsest attenuation maps."""
LARGEST_STEP_MM = 1000.0
LARGEST_POSITION_MM = 1e5


def is_plausible_spacing(*spacing: float) -> bool:
    """True where every distance between pixels, in mm, is one that a CT image can have."""
    return all(PIXEL_MM[0] <= distance <= PIXEL_MM[1] for distance in spacing)


def is_plausible_position(*coordinates: float) -> bool:
    """True where every coordinate, in mm, is one that a patient in a scanner can have."""
    return all(abs(coordinate) <= LARGEST_POSITION_MM for coordinate in coordinates)


def is_orthonormal(orientation: tuple[float, ...]) -> bool:
    """Whether the six numbers are two unit vectors at right angles, to 1 %."""
    vectors = np.array(orientation).reshape(2, 3)
    return bool(np.abs(vectors @ vectors.T - np.eye(2)).max() < ORTHONORMAL_WITHIN)


def orthonormalised(orientation: Orientation) -> Orientation:
    """Unit vectors at right angles, the first in the given direction; unchanged where they are that to 1e-4."""
    vectors = np.array(orientation).reshape(2, 3)
    if np.abs(vectors @ vectors.T - np.eye(2)).max() <= UNIT_WITHIN:
        return orientation
    first = vectors[0] / np.linalg.norm(vectors[0])
    second = vectors[1] - (vectors[1] @ first) * first
    a, b, c = first.tolist()
    d, e, f = (second / np.linalg.norm(second)).tolist()
    return a, b, c, d, e, f


def normal(orientation: Orientation) -> Vector:
    """The unit vector along which slices are ordered: row direction × column direction."""
    along_columns, along_rows = np.array(orientation).reshape(2, 3)
    cross = np.cross(along_columns, along_rows)
    x, y, z = (cross / np.linalg.norm(cross)).tolist()
    return x, y, z


def angle_to_axial(orientation: Orientation) -> float:
    """Degrees between the slice's normal and the patient's axis, 0 … 90."""
    return math.degrees(math.acos(min(1.0, abs(normal(orientation)[2]))))


@dataclass(frozen=True, eq=False)
class Spread:
    """How the slices of a series lie, in their order along the normal."""

    along: npt.NDArray[np.float64]
    """mm along the normal, ascending."""
    sideways: npt.NDArray[np.float64]
    """(slices, 3): mm beside the line through the first slice's corner along the normal."""


def spread(positions: list[Vector], orientation: Orientation) -> Spread:
    """Positions (mm, LPS) split into their parts along the slices' normal and across it."""
    points = np.array(positions, dtype=np.float64).reshape(-1, 3)
    axis = np.array(normal(orientation))
    along = points @ axis
    offsets = points - points[0]
    return Spread(along, offsets - np.outer(offsets @ axis, axis))
