"""What a thick slice is of thin ones, and back: slice profiles, interpolation and projection along the slices' normal.

Everything here is linear and acts along one axis, so it is a matrix: NumPy and SciPy only.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from scipy import special

from ctsr.errors import DomainError

Matrix: TypeAlias = npt.NDArray[np.float64]
Block: TypeAlias = npt.NDArray[np.float32]
"""(slices, rows, columns), HU."""
AlongZ: TypeAlias = Literal["linear", "cubic", "lanczos"]
"""Interpolation along the normal: `cubic` is Catmull and Rom's (Keys 1981, a = −½), `lanczos` has three lobes."""

REACH: dict[AlongZ, int] = {"linear": 1, "cubic": 2, "lanczos": 3}
"""Slices to either side that a kernel reaches."""
FADING = 4.0
"""Standard deviations of the Gaussian at which a profile ends."""
DAMPING = 1e-3
"""Of `projection`, as a share of what a slice keeps of itself: profiles that overlap by much share almost all they
hold, and what little they differ by would come back as noise."""


@dataclass(frozen=True)
class SliceProfile:
    """How much each height contributes to a slice: a rectangle, blurred by a Gaussian."""

    thickness: float
    """Width of the rectangle, mm; to a softness of a third of it also the width at half height, which scanners state
    as SliceThickness."""
    softness: float = 0.0
    """Standard deviation of the Gaussian, mm."""

    def __post_init__(self) -> None:
        if not (0 < self.thickness < math.inf and 0 <= self.softness < math.inf):
            raise DomainError(
                f"a slice profile needs a thickness above 0 mm and a softness of at least 0 mm, "
                f"got {self.thickness:g} and {self.softness:g}"
            )

    @property
    def reach(self) -> float:
        """Mm from the middle of a slice to where its profile ends."""
        return self.thickness / 2 + FADING * self.softness

    def below(self, height: npt.ArrayLike) -> Matrix:
        """The share of the profile below a height, in [0, 1].

        Args:
            height: mm above the middle of the slice, any shape.
        """
        z = np.asarray(height, np.float64)
        if self.softness == 0:
            return np.clip(z / self.thickness + 0.5, 0.0, 1.0)
        upper = _ramp((z + self.thickness / 2) / self.softness)
        lower = _ramp((z - self.thickness / 2) / self.softness)
        return self.softness / self.thickness * (upper - lower)


def thickening(profile: SliceProfile, thick: npt.ArrayLike, thin: npt.ArrayLike) -> Matrix:
    """The means over thin slices that thick slices are.

    Thin slices are constant over their distance, so the integral over the profile is exact. What a profile has beyond
    the first and the last of them is shared out over the others.

    Args:
        profile: of the thick slices, mm.
        thick: positions of the thick slices, mm, ascending.
        thin: positions of the thin slices, mm, ascending and even.

    Returns:
        (thick, thin), rows sum to 1.

    Raises:
        DomainError: a thick slice has nothing of the thin ones.
    """
    at, cells = np.asarray(thick, np.float64), np.asarray(thin, np.float64)
    step = cells[1] - cells[0] if len(cells) > 1 else profile.thickness
    ends = np.append(cells - step / 2, cells[-1] + step / 2)
    weights = np.diff(profile.below(ends[None, :] - at[:, None]), axis=1)
    total = weights.sum(axis=1, keepdims=True)
    if (total <= 0).any():
        raise DomainError("a thick slice lies outside the thin slices")
    return weights / total


def interpolation(kind: AlongZ, source: npt.ArrayLike, target: npt.ArrayLike) -> Matrix:
    """Weights of the source slices in slices at other positions; beyond the ends, the end slice goes on.

    Args:
        kind: of interpolation.
        source: positions, ascending and even.
        target: positions in the same unit.

    Returns:
        (target, source), rows sum to 1.

    Raises:
        DomainError: there is no such kind.
    """
    if kind not in REACH:
        raise DomainError(f"no interpolation is called {kind!r}; there are {', '.join(get_args(AlongZ))}")
    at, to = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if len(at) == 1:
        return np.ones((len(to), 1))
    place = (to - at[0]) / (at[-1] - at[0]) * (len(at) - 1)
    first = np.floor(place).astype(np.int64) - REACH[kind] + 1
    taps = first[:, None] + np.arange(2 * REACH[kind])
    weights = _kernel(kind, place[:, None] - taps)
    matrix = np.zeros((len(to), len(at)))
    np.add.at(matrix, (np.arange(len(to))[:, None], np.clip(taps, 0, len(at) - 1)), weights)
    return matrix / matrix.sum(axis=1, keepdims=True)


def projection(thick_of_thin: Matrix) -> Matrix:
    """The least that must be added to thin slices so that thickening them adds a given amount to thick ones.

    ``Aᵀ(AAᵀ + λ)⁻¹``: the adjoint of thickening, and what undoes the overlap of the profiles.

    Args:
        thick_of_thin: A, see `thickening`.

    Returns:
        (thin, thick).
    """
    overlap = thick_of_thin @ thick_of_thin.T
    damped = overlap + DAMPING * np.diag(overlap).mean() * np.eye(len(overlap))
    return np.linalg.solve(damped, thick_of_thin).T


def to_nearest(source: npt.ArrayLike, target: npt.ArrayLike) -> Matrix:
    """The way from each target position to the nearest source position, with its sign."""
    at, to = np.asarray(source, np.float64), np.asarray(target, np.float64)
    ways = at[None, :] - to[:, None]
    return np.take_along_axis(ways, np.abs(ways).argmin(axis=1)[:, None], axis=1)[:, 0]


def along_z(matrix: Matrix, block: Block) -> Block:
    """Apply a matrix of this module to slices: (target, source) · (source, rows, columns)."""
    mixed = matrix.astype(np.float32) @ block.reshape(len(block), -1)
    return mixed.reshape(len(matrix), *block.shape[1:])


def _ramp(u: Matrix) -> Matrix:
    """``∫ Φ``: u·Φ(u) + φ(u), of the normal distribution."""
    return u * special.ndtr(u) + np.exp(-0.5 * u**2) / math.sqrt(2 * math.pi)


def _kernel(kind: AlongZ, distance: Matrix) -> Matrix:
    x = np.abs(distance)
    if kind == "linear":
        return np.clip(1 - x, 0, None)
    if kind == "lanczos":
        return np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0.0)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
