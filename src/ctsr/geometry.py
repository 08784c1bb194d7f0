"""Where slices lie: along their normal, beside it, and how evenly."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctsr.volume import Orientation, Vector

ORTHONORMAL_WITHIN = 1e-2


def is_orthonormal(orientation: tuple[float, ...]) -> bool:
    """Whether the six numbers are two unit vectors at right angles, to 1 %."""
    vectors = np.array(orientation).reshape(2, 3)
    return bool(np.abs(vectors @ vectors.T - np.eye(2)).max() < ORTHONORMAL_WITHIN)


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
