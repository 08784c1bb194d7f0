"""A CT volume: Hounsfield units on a grid in millimetres, positions along its normal, one raster onto another.

NumPy and SciPy only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from ctsr.errors import DomainError, failure_text
from ctsr.hu import AIR

Vector: TypeAlias = tuple[float, float, float]
"""A point or direction in the patient's coordinate system, LPS: mm towards left, posterior, superior."""

Orientation: TypeAlias = tuple[float, float, float, float, float, float]
"""ImageOrientationPatient: direction of growing column index, then of growing row index."""

VoxelsHU: TypeAlias = npt.NDArray[np.float32]
"""HU; axes (slice, row, column) for a volume, (row, column) for a slice."""

PaddingMask: TypeAlias = npt.NDArray[np.bool_]
"""True where the scanner reconstructed nothing; the shape of the voxels it belongs to."""

Affine: TypeAlias = npt.NDArray[np.float64]
"""4×4, from indices to mm."""

ORTHONORMAL_WITHIN = 1e-2
UNIT_WITHIN = 1e-4
"""Deviation from orthonormal that writing cosines with few digits makes; more is corrected."""
PIXEL_MM = (0.01, 10.0)
"""Plausible distances between pixels: from micro-CT to the coarsest attenuation maps."""
SMALLEST_STEP_MM = 0.01
"""Slices nearer to each other than this lie at the same position."""
LARGEST_STEP_MM = 200.0
"""No slice is thicker, and no scan leaves out more."""
LARGEST_FIELD_MM = 1200.0
"""Along a side; the widest gantries have a bore of 900 mm."""
LARGEST_POSITION_MM = 1e5
SMALL_RANGE = 20.0
"""HU between the lowest and the highest value, below which whole HU are too coarse for an image."""


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
        if not all(0 < distance < math.inf for distance in self.spacing):  # nan neither
            raise DomainError(f"voxel spacing must be above 0 mm and finite, got {self.spacing}")

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
        if not all(0 < distance < math.inf for distance in self.spacing):  # nan neither
            raise DomainError(f"pixel spacing must be above 0 mm and finite, got {self.spacing}")

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


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """Voxels in HU on a grid in mm; padding reads as air and is marked in a mask."""

    hu: VoxelsHU
    """(slices, rows, columns), float32."""
    grid: Grid
    padding: PaddingMask | None = None
    """True where nothing was reconstructed; None where every voxel was."""
    made_by: str = ""
    """The network that made it, as `ctsr.write_series` names it in headers; empty for what a scanner made."""

    @classmethod
    def from_array(
        cls,
        hu: npt.ArrayLike,
        spacing: Vector,
        *,
        origin: Vector = (0.0, 0.0, 0.0),
        padding: npt.ArrayLike | None = None,
    ) -> "Volume":
        """Make an axial volume of an array.

        Args:
            hu: (slices, rows, columns) in HU; first slice lowest, first row anterior, first column on the patient's
                right. What a masked array masks is padding.
            spacing: mm between slices, rows and columns.
            origin: position of the first voxel's centre in mm, LPS.
            padding: True where nothing was reconstructed; such voxels are set to −1000 HU.

        Raises:
            DomainError: the array does not have three axes, holds something else than real numbers, NaN or infinity;
                a spacing that is not positive.

        Examples:
            >>> volume = Volume.from_array(np.zeros((3, 64, 64)), spacing=(2.5, 0.8, 0.8))
            >>> volume.grid.spacing
            (2.5, 0.8, 0.8)
        """
        try:
            voxels = _real(np.asarray(hu))
        except (TypeError, ValueError, RuntimeError) as error:  # lists of unequal lengths, tensors on a GPU
            raise DomainError(f"`hu` is no array of numbers: {failure_text(error)}") from error
        if voxels.ndim != 3:
            raise DomainError(f"`hu` needs the axes (slice, row, column), got an array of shape {voxels.shape}")
        mask = np.ma.getmaskarray(hu) if isinstance(hu, np.ma.MaskedArray) else None
        if padding is not None:
            mask = np.asarray(padding, np.bool_) | (False if mask is None else mask)
        if mask is not None and mask.shape != voxels.shape:
            raise DomainError(f"a padding mask of shape {mask.shape} does not fit voxels of {voxels.shape}")
        if mask is not None and mask.any():
            voxels = np.where(mask, np.float32(AIR), voxels)
        slices, rows, columns = voxels.shape
        axes: tuple[Vector, Vector, Vector] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
        return cls(voxels, Grid((slices, rows, columns), spacing, origin, axes), mask)

    def __post_init__(self) -> None:
        if self.hu.shape != self.grid.shape:
            raise DomainError(f"voxels of shape {self.hu.shape} do not fit a grid of shape {self.grid.shape}")
        if self.padding is not None and self.padding.shape != self.hu.shape:
            raise DomainError(f"a padding mask of shape {self.padding.shape} does not fit voxels of {self.hu.shape}")
        if self.hu.dtype != np.float32:
            object.__setattr__(self, "hu", _real(self.hu))
        self.check_finite()

    def check_finite(self) -> None:
        """Look at the voxels, which may have been changed since the volume was made.

        Raises:
            DomainError: NaN or infinity among them.
        """
        # A sum keeps both, and needs no array as large as the volume.
        with np.errstate(invalid="ignore"):
            total = float(self.hu.sum(dtype=np.float64))
        if not math.isfinite(total):
            raise DomainError("`hu` holds NaN or infinity; set such voxels to -1000 and mark them in `padding`")

    def check_roundable(self) -> None:
        """Whether whole HU, which files hold, are fine enough.

        Raises:
            DomainError: they would leave nothing: of masks and probabilities, of HU scaled to −1 … 1.
        """
        low, high = float(self.hu.min()), float(self.hu.max())
        if high - low < SMALL_RANGE and not np.array_equal(self.hu, np.rint(self.hu)):
            raise DomainError(
                f"the values lie between {low:.3g} and {high:.3g}, and files hold whole HU: "
                "give HU, or save such an image in a format of its own"
            )

    def __repr__(self) -> str:
        shape = " × ".join(map(str, self.hu.shape))
        spacing = " × ".join(f"{mm:g}" for mm in self.grid.spacing)
        span = f"{self.hu.min():g} … {self.hu.max():g} HU" if self.hu.size else "no voxels"
        return f"Volume({shape} voxels of {spacing} mm, {span})"


def _real(values: npt.NDArray[np.generic]) -> VoxelsHU:
    """Numbers as float32; truth values, complex numbers and text are no HU."""
    if values.dtype.kind not in "iuf":
        raise DomainError(f"`hu` holds values of type {values.dtype}; HU are real numbers")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
        return values.astype(np.float32, copy=False)


def reordered(affine: Affine, shape: Sequence[int], axes: Sequence[int], backwards: Sequence[bool]) -> Affine:
    """The affine of (slice, row, column) indices, from that of a file's own.

    Args:
        affine: 4×4, indices of the file's axes → mm.
        shape: of the file's axes.
        axes: those that are nearest to slices, rows and columns.
        backwards: where the file's index runs the other way.
    """
    turned = np.eye(4)
    origin = affine[:3, 3].copy()
    for place, (axis, against) in enumerate(zip(axes, backwards, strict=True)):
        step = affine[:3, axis]
        turned[:3, place] = -step if against else step
        if against:
            origin += step * (shape[axis] - 1)
    turned[:3, 3] = origin
    return turned


def corners_apart(affine: Affine, other: Affine, shape: Sequence[int]) -> float:
    """The most by which two affines put a corner of a volume at different places, in their unit of length."""
    first_and_last = [(0, size - 1) for size in shape[:3]]
    corners = np.array([[*corner, 1] for corner in product(*first_and_last)])
    return float(np.linalg.norm((corners @ (affine - other).T)[:, :3], axis=1).max())


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


def orientation_of(plane: Plane) -> Orientation:
    """ImageOrientationPatient of a plane: the direction in which columns follow one another, then that of rows."""
    (a, b, c), (d, e, f) = plane.directions[::-1]
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


CACHED_ROWS = 16
TISSUE_SHARE = 0.5
"""A pixel of the result is tissue where more than this share of its weight came from tissue."""


@dataclass(frozen=True, eq=False)
class Resampled:
    """A slice on its new raster; padded pixels hold air."""

    hu: VoxelsHU
    padding: PaddingMask | None


def finer_plane(plane: Plane, scale: int) -> Plane:
    """The raster with `scale` times as many rows and columns on the same field of view."""
    rows, columns = plane.shape
    return plane.recentred((rows * scale, columns * scale), (plane.spacing[0] / scale, plane.spacing[1] / scale))


def at_spacing(plane: Plane, target_mm: float) -> Plane:
    """The raster with exactly `target_mm` between pixels: round(N·Δ/target) pixels, same centre."""
    rows = max(1, round(plane.shape[0] * plane.spacing[0] / target_mm))
    columns = max(1, round(plane.shape[1] * plane.spacing[1] / target_mm))
    return plane.recentred((rows, columns), (target_mm, target_mm))


def resample(
    hu: VoxelsHU, padding: PaddingMask | None, before: Plane, after: Plane, *, antialias: bool = True
) -> Resampled:
    """Interpolate a slice from one raster onto another around the same centre.

    Beyond the outermost pixel centres the edge value goes on. Padding has no weight (normalised convolution,
    Knutsson and Westin 1993): a pixel of the result is a mean over tissue, or is padding itself.

    Args:
        hu: ``(rows, columns)`` on `before`.
        padding: True where nothing was reconstructed, or None.
        before: the raster of `hu`.
        after: the raster to fill, ``before.recentred(…)``.
        antialias: widen the kernel by the factor where `after` is coarser; without it a shrunk slice aliases.
    """
    axes = _Axes(before.shape, after.shape, _ratios(before, after), antialias)
    if padding is None or not padding.any():
        # Counting from a value of the slice keeps a constant slice exactly constant, whatever rounding does to weights.
        pivot = hu[0, 0]
        mean = axes.apply(hu - pivot)
        mean += pivot
        return Resampled(mean, None)
    if padding.all():
        return Resampled(np.full(after.shape, AIR, np.float32), np.ones(after.shape, np.bool_))
    share = _tissue_share(axes, padding.tobytes())
    pivot = hu.flat[padding.argmin()]
    weighted = hu - pivot
    np.copyto(weighted, 0, where=padding)
    mean = axes.apply(weighted)
    mean *= share.inverse
    mean += pivot
    np.copyto(mean, AIR, where=share.outside)
    return Resampled(mean, share.outside)


def block_means(image: VoxelsHU, scale: int) -> VoxelsHU:
    """Mean of each scale×scale block: (scale·rows, scale·columns) → (rows, columns)."""
    rows, columns = image.shape[0] // scale, image.shape[1] // scale
    return image[: rows * scale, : columns * scale].reshape(rows, scale, columns, scale).mean(axis=(1, 3))


def _ratios(before: Plane, after: Plane) -> tuple[float, float]:
    rows, columns = after.spacing[0] / before.spacing[0], after.spacing[1] / before.spacing[1]
    return rows, columns


@dataclass(frozen=True)
class _Axes:
    """Both axes of a resampling; hashable, so that what depends on it alone is reckoned once a series."""

    shape: tuple[int, int]
    new_shape: tuple[int, int]
    ratios: tuple[float, float]
    """New spacing over old."""
    antialias: bool

    def apply(self, pixels: VoxelsHU) -> VoxelsHU:
        """Weighted means, ``(rows, columns)`` → the new shape.

        One axis after the other; sparse products sum in a fixed order, so the result is the same on every run.
        """
        down = _weights(self.shape[0], self.new_shape[0], self.ratios[0], self.antialias)
        across = _weights(self.shape[1], self.new_shape[1], self.ratios[1], self.antialias)
        # Products want the axis they shrink to come first, and the smaller array is the cheaper one to turn.
        if self.new_shape[0] <= self.shape[0]:
            return _turned(across @ _turned(down @ pixels))
        return down @ _turned(across @ _turned(pixels))


def _turned(pixels: VoxelsHU) -> VoxelsHU:
    """The transpose, laid out in order: a few rows at a time, which the processor's cache takes three times as fast."""
    turned = np.empty(pixels.shape[::-1], pixels.dtype)
    for start in range(0, len(pixels), CACHED_ROWS):
        turned[:, start : start + CACHED_ROWS] = pixels[start : start + CACHED_ROWS].T
    return turned


@dataclass(frozen=True, eq=False)
class _Share:
    """How much of each new pixel's weight lies on tissue."""

    inverse: VoxelsHU
    """1 / share; 1 where `outside`."""
    outside: PaddingMask


@lru_cache(maxsize=4)
def _tissue_share(axes: _Axes, padding: bytes) -> _Share:
    """The slices of a series mostly have one mask; it is told by its bytes."""
    tissue = 1 - np.frombuffer(padding, np.uint8).reshape(axes.shape).astype(np.float32)
    share = axes.apply(tissue)
    outside = share <= TISSUE_SHARE
    return _Share(np.reciprocal(np.where(outside, np.float32(1), share)), outside)


@lru_cache(maxsize=64)
def _weights(size: int, new_size: int, ratio: float, antialias: bool) -> csr_array:
    """Triangle-kernel weights of one axis, ``(new_size, size)``; every row sums to 1.

    `ratio` is new spacing over old. The kernel is one old pixel wide to either side, or one new pixel where that
    is more and `antialias` is on. Weights that fall outside the axis go to its first and last pixel.
    """
    center = (size - 1) / 2 + (np.arange(new_size) - (new_size - 1) / 2) * ratio
    reach = max(1.0, ratio) if antialias else 1.0
    taps = np.floor(center - reach)[:, None] + np.arange(1, int(np.ceil(2 * reach)) + 1)
    weight = np.clip(1 - np.abs(taps - center[:, None]) / reach, 0, None)
    weight /= weight.sum(axis=1, keepdims=True)
    columns: npt.NDArray[np.intp] = np.clip(taps, 0, size - 1).astype(np.intp)
    starts = np.arange(0, weight.size + 1, weight.shape[1])
    matrix = csr_array((weight.astype(np.float32).ravel(), columns.ravel(), starts), shape=(new_size, size))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix
