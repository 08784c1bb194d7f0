"""A CT volume: Hounsfield units on a grid in millimetres. NumPy only; knows nothing of files."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ctsr.errors import DomainError

Vector: TypeAlias = tuple[float, float, float]
"""A point or direction in the patient's coordinate system, LPS: mm towards left, posterior, superior."""

Orientation: TypeAlias = tuple[float, float, float, float, float, float]
"""ImageOrientationPatient: direction of growing column index, then of growing row index."""

VoxelsHU: TypeAlias = npt.NDArray[np.float32]
"""HU; axes (slice, row, column) for a volume, (row, column) for a slice."""

PaddingMask: TypeAlias = npt.NDArray[np.bool_]
"""True where the scanner reconstructed nothing; the shape of the voxels it belongs to."""


@dataclass(frozen=True)
class Grid:
    """Where voxel centres lie: ``position = origin + slice·Δ₀·d₀ + row·Δ₁·d₁ + column·Δ₂·d₂`` in mm, LPS.

    The axis order is that of the array, (slice, row, column), everywhere. `directions` are the unit
    vectors along which each index grows; DICOM's ImageOrientationPatient names the column direction
    first (``directions[2]``), then the row direction (``directions[1]``).
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: Vector
    directions: tuple[Vector, Vector, Vector]

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise DomainError(f"a grid needs at least one voxel along each axis, got shape {self.shape}")
        if min(self.spacing) <= 0:
            raise DomainError(f"voxel spacing must be above 0 mm, got {self.spacing}")

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """4×4: homogeneous (slice, row, column) index → LPS position in mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(self.directions).T * np.array(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    def position(self, index: tuple[float, float, float]) -> Vector:
        """LPS position in mm of a (fractional) voxel index."""
        x, y, z, _ = self.affine @ np.array([*index, 1.0])
        return float(x), float(y), float(z)


@dataclass(frozen=True)
class Plane:
    """Where the pixel centres of one slice lie: ``position = origin + row·Δ₀·d₀ + column·Δ₁·d₁`` in mm, LPS.

    Shape, spacing and directions are in the order (row index, column index), as those of `Grid` are.
    """

    shape: tuple[int, int]
    spacing: tuple[float, float]
    origin: Vector
    directions: tuple[Vector, Vector]

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise DomainError(f"a plane needs at least one pixel along each axis, got shape {self.shape}")
        if min(self.spacing) <= 0:
            raise DomainError(f"pixel spacing must be above 0 mm, got {self.spacing}")

    def position(self, row: float, column: float) -> Vector:
        """LPS position in mm of a (fractional) pixel index."""
        steps = np.array([row * self.spacing[0], column * self.spacing[1]])
        x, y, z = np.array(self.origin) + steps @ np.array(self.directions)
        return float(x), float(y), float(z)

    def recentred(self, shape: tuple[int, int], spacing: tuple[float, float]) -> "Plane":
        """Another raster on the same plane around the same centre.

        The first pixel moves by ``((N−1)Δ − (N′−1)Δ′)/2`` mm along each axis.
        """
        first = [
            (old_size - 1 - (new_size - 1) * new_mm / old_mm) / 2
            for old_size, old_mm, new_size, new_mm in zip(self.shape, self.spacing, shape, spacing, strict=True)
        ]
        return Plane(shape, spacing, self.position(first[0], first[1]), self.directions)


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels in HU and the grid they stand on; padding reads as air and is remembered in a mask."""

    hu: VoxelsHU
    """(slices, rows, columns), float32."""
    grid: Grid
    padding: PaddingMask | None = None
    """True where nothing was reconstructed; None where every voxel was."""

    @classmethod
    def from_array(cls, hu: npt.ArrayLike, spacing: Vector, *, origin: Vector = (0.0, 0.0, 0.0)) -> "Volume":
        """Make an axial volume of an array.

        Args:
            hu: (slices, rows, columns) in HU; first slice lowest, first row anterior, first column on the patient's
                right.
            spacing: mm between slices, rows and columns.
            origin: position of the first voxel's centre in mm, LPS.

        Raises:
            DomainError: the array does not have three axes, or holds NaN or infinity; a spacing that is not positive.

        Examples:
            >>> volume = Volume.from_array(np.zeros((3, 64, 64)), spacing=(2.5, 0.8, 0.8))
            >>> volume.grid.spacing
            (2.5, 0.8, 0.8)
        """
        voxels = np.asarray(hu, np.float32)
        if voxels.ndim != 3:
            raise DomainError(f"`hu` needs the axes (slice, row, column), got an array of shape {voxels.shape}")
        if not np.isfinite(voxels).all():
            raise DomainError("`hu` holds NaN or infinity; set such voxels to -1000 and mark them in `padding`")
        slices, rows, columns = voxels.shape
        axes: tuple[Vector, Vector, Vector] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
        return cls(voxels, Grid((slices, rows, columns), spacing, origin, axes))

    def __post_init__(self) -> None:
        if self.hu.shape != self.grid.shape:
            raise DomainError(f"voxels of shape {self.hu.shape} do not fit a grid of shape {self.grid.shape}")
        if self.padding is not None and self.padding.shape != self.hu.shape:
            raise DomainError(f"a padding mask of shape {self.padding.shape} does not fit voxels of {self.hu.shape}")
