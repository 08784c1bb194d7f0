"""Lesions put into HR: which, where, and how much of one an image shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ctsr.body_mask import body_mask
from ctsr.errors import DomainError
from ctsr.hu import FloatArray
from ctsr.physics import soft_disc
from ctsr.physics.phantom import distances
from ctsr.tissue import AERATED_LUNG, SOFT_TISSUE, tissue_mask

__all__ = ["Lesion", "LesionSpec", "contrast_of", "displacement_mm", "insert", "part_of", "places"]

Tissue: TypeAlias = Literal["soft tissue", "lung"]
TISSUES: dict[Tissue, tuple[float, float]] = {"soft tissue": SOFT_TISSUE, "lung": AERATED_LUNG}
"""HU of the smoothed slice."""
EDGE_MM = 1.5
"""Over which a lesion's edge rises: the blur of a scanner."""
RIM_MM = 1.0
"""Of the same tissue around a lesion."""
GAP_MM = 1.0
"""Between a lesion's edge and the ring it is compared with."""
RING_MM = 3.0
"""Width of that ring."""

Places: TypeAlias = dict[Tissue, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Lesion:
    """A nodule, as its central slice shows it: a disc with a soft edge."""

    row: float
    """Of its centre, HR pixels."""
    column: float
    diameter_mm: float
    contrast_hu: float
    tissue: Tissue


@dataclass(frozen=True)
class LesionSpec:
    """Which lesions a slice gets."""

    diameters_mm: tuple[float, ...] = (3.0, 5.0, 8.0)
    contrasts_hu: tuple[float, ...] = (-100.0, -50.0, -20.0, 20.0, 50.0, 100.0)
    """Against the tissue around."""

    def __post_init__(self) -> None:
        if not all(d > 0 for d in self.diameters_mm) or not all(self.contrasts_hu):
            raise DomainError("lesions have diameters above 0 mm and contrasts other than 0 HU")

    def sample(self, hr_hu: FloatArray, pixel_mm: float, rng: np.random.Generator) -> tuple[Lesion, ...]:
        """One lesion of each diameter and contrast, each at a random place and sub-pixel position.

        Where a slice has both, soft tissue and lung are equally likely. A diameter that fits nowhere is left out.
        """
        lesions = list[Lesion]()
        for diameter in self.diameters_mm:
            found = places(hr_hu, diameter, pixel_mm)
            tissues: list[Tissue] = [tissue for tissue, where in found.items() if len(where)]
            for contrast in self.contrasts_hu:
                draw, shift = rng.random(2), rng.uniform(-0.5, 0.5, 2)
                if not tissues:
                    continue
                tissue = tissues[int(draw[0] * len(tissues))]
                row, column = found[tissue][int(draw[1] * len(found[tissue]))]
                lesions.append(Lesion(float(row + shift[0]), float(column + shift[1]), diameter, contrast, tissue))
        return tuple(lesions)


def places(hr_hu: FloatArray, diameter_mm: float, pixel_mm: float) -> Places:
    """Pixels where a lesion of that size lies in one tissue, with its ring inside the image: (n, 2) row and column."""
    body = body_mask(hr_hu)
    border = int(np.ceil((diameter_mm / 2 + EDGE_MM / 2 + GAP_MM + RING_MM) / pixel_mm)) + 1
    inside = np.zeros(hr_hu.shape, dtype=bool)
    inside[border:-border, border:-border] = True
    found: Places = {}
    for tissue, (low, high) in TISSUES.items():
        depth = np.asarray(ndimage.distance_transform_edt(tissue_mask(hr_hu, low, high) & body))
        found[tissue] = np.argwhere((depth * pixel_mm >= diameter_mm / 2 + RIM_MM) & inside)
    return found


def insert(hr_hu: FloatArray, lesion: Lesion, pixel_mm: float) -> FloatArray:
    """The slice with the lesion, HU; the tissue's own texture and noise go on in it."""
    center, radius = (lesion.row, lesion.column), lesion.diameter_mm / 2 / pixel_mm
    disc = soft_disc(hr_hu.shape, center, radius, max(1.0, EDGE_MM / pixel_mm))
    return hr_hu + (lesion.contrast_hu * disc).astype(np.float32)


def contrast_of(image: FloatArray, lesion: Lesion, pixel_mm: float) -> float:
    """Mean inside the lesion's radius less the mean of the ring around it, HU.

    Args:
        image: (rows, columns), HU, in which `lesion` has its row and column.
        lesion: where to measure, whether it is there or not.
        pixel_mm: side of a pixel.
    """
    away = distances(image.shape, (lesion.row, lesion.column)) * pixel_mm
    radius = lesion.diameter_mm / 2
    inner = radius + EDGE_MM / 2 + GAP_MM
    ring = (away >= inner) & (away < inner + RING_MM)
    return float(image[away <= radius].mean()) - float(image[ring].mean())


def displacement_mm(difference: FloatArray, lesion: Lesion, pixel_mm: float) -> float | None:
    """How far from its place a lesion came back: the centroid of what is above half of its greatest value there.

    Args:
        difference: image with the lesion less image without it, HU.
        lesion: as it was put in.
        pixel_mm: side of a pixel.

    Returns:
        None where nothing of its sign came back.
    """
    near = distances(difference.shape, (lesion.row, lesion.column)) * pixel_mm <= lesion.diameter_mm / 2 + EDGE_MM
    shown = np.where(near, difference * np.sign(lesion.contrast_hu), 0)
    if not shown.max() > 0:
        return None
    weights = np.where(shown >= shown.max() / 2, shown, 0)
    rows, columns = np.indices(difference.shape)
    center = [float((axis * weights).sum() / weights.sum()) for axis in (rows, columns)]
    return pixel_mm * float(np.hypot(center[0] - lesion.row, center[1] - lesion.column))


def part_of(lesion: Lesion, corner: Sequence[int]) -> Lesion:
    """The lesion in the coordinates of a part of the slice that begins at `corner`."""
    return Lesion(
        lesion.row - corner[0], lesion.column - corner[1], lesion.diameter_mm, lesion.contrast_hu, lesion.tissue
    )
