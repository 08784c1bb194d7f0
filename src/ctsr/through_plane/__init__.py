"""Between slices: where slices lie and are wanted along their normal, their profile, interpolation and projection.

Everything here is linear and acts along one axis, so it is a matrix: NumPy and SciPy only.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from scipy import special

from ctsr.errors import DomainError, SeriesError, UsageError
from ctsr.exams import even_grid
from ctsr.padding import SlicePixels
from ctsr.series import Series, check
from ctsr.volume import PaddingMask

Matrix: TypeAlias = npt.NDArray[np.float64]
Block: TypeAlias = npt.NDArray[np.float32]
"""(slices, rows, columns), HU."""
AlongZ: TypeAlias = Literal["linear", "cubic", "lanczos"]
"""Interpolation along the normal: `cubic` is Catmull and Rom's (Keys 1981, a = −½), `lanczos` has three lobes."""

REACH: dict[AlongZ, int] = {"linear": 1, "cubic": 2, "lanczos": 3}
"""Slices to either side that a kernel reaches."""
FADING = 4.0
"""Standard deviations of the Gaussian at which a profile ends."""
WIDTH_WITHIN = 1e-6
"""Of a profile's reach, to which its width at half height is found."""
DAMPING = 1e-3
"""Of `projection`, as a share of what a slice keeps of itself: profiles that overlap by much share almost all they
hold, and what little they differ by would come back as noise."""


@dataclass(frozen=True)
class SliceProfile:
    """How much each height contributes to a slice: a rectangle, blurred by a Gaussian."""

    thickness: float
    """Width of the rectangle, mm; to a softness of a third of it also the width at half height, see `width`."""
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

    @property
    def width(self) -> float:
        """Full width at half height, mm: what a network is told, and what scanners state as SliceThickness."""
        if self.softness == 0:
            return self.thickness
        low, high = 0.0, self.reach
        half = self._height(0.0) / 2
        while high - low > WIDTH_WITHIN * self.reach:
            middle = (low + high) / 2
            low, high = (middle, high) if self._height(middle) > half else (low, middle)
        return low + high

    def _height(self, z: float) -> float:
        """The profile at a height, but for a constant factor."""
        edges = (z + np.array([0.5, -0.5]) * self.thickness) / self.softness
        upper, lower = special.ndtr(edges)
        return float(upper - lower)

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


def whole_within(profile: SliceProfile, thick: npt.ArrayLike, thin: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which thick slices lie within the thin ones with all of their profile: what a projection can hold on to.

    Args:
        profile: of the thick slices, mm.
        thick: positions of the thick slices, mm.
        thin: positions of the thin slices, mm, ascending and even.
    """
    at, cells = np.asarray(thick, np.float64), np.asarray(thin, np.float64)
    half = (cells[1] - cells[0]) / 2
    return (at - profile.reach >= cells[0] - half) & (at + profile.reach <= cells[-1] + half)


def kept_by_projection(profile: SliceProfile, thick: npt.ArrayLike, thin: npt.ArrayLike) -> Matrix:
    """What a projection onto thick slices leaves of an error in thin ones: ``I − PA``, (thin, thin).

    Args:
        profile: of the thick slices.
        thick: positions of the thick slices; those that lie whole within the thin ones are projected onto.
        thin: positions of the thin slices, ascending and even.
    """
    whole = whole_within(profile, thick, thin)
    identity = np.eye(np.size(thin))
    if not whole.any():
        return identity
    operator = thickening(profile, np.asarray(thick, np.float64)[whole], thin)
    return identity - projection(operator) @ operator


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


LEAST_SPACING_MM = 0.1
SAME_WITHIN = 0.02
"""Share by which two statements of one length may differ before it is said."""
THIN_ENOUGH = 2
"""Slices of a series that is truth lie at least so many times nearer than those that are made of it."""
FEWEST_THICK = 3
"""Thick slices that a series must give to be truth: one at least with a neighbour to either side."""


@dataclass(frozen=True)
class SliceGrid:
    """Even source slices and even wanted slices, counted from the first source slice; lengths in mm."""

    count: int
    """Source slices."""
    distance: float
    """From one source slice to the next."""
    profile: SliceProfile
    """Of the source slices."""
    spacing: float
    """From one wanted slice to the next."""

    def __post_init__(self) -> None:
        if self.count < 2:
            raise DomainError("slices between slices need at least two slices")
        if not LEAST_SPACING_MM <= self.spacing < math.inf:
            raise DomainError(f"slices lie at least {LEAST_SPACING_MM:g} mm apart, not {self.spacing:g}")
        if self.spacing >= self.distance * (1 - SAME_WITHIN):
            raise DomainError(
                f"the slices lie {self.distance:.4g} mm apart already: {self.spacing:g} mm makes nothing finer"
            )

    @property
    def num_wanted(self) -> int:
        """Wanted slices: from the first source slice on, as many as fit before or onto the last."""
        return math.floor((self.count - 1) * self.distance / self.spacing + 1e-6) + 1

    def source_positions(self, first: int, stop: int) -> Matrix:
        """Of source slices `first` to before `stop`."""
        return np.arange(first, stop, dtype=np.float64) * self.distance

    def wanted_positions(self, first: int, stop: int) -> Matrix:
        """Of wanted slices `first` to before `stop`; also beyond the ends."""
        return np.arange(first, stop, dtype=np.float64) * self.spacing

    def nearest(self, wanted: int) -> int:
        """The source slice that is nearest to a wanted one."""
        return min(self.count - 1, max(0, round(wanted * self.spacing / self.distance)))

    def sources(self, wanted: int) -> tuple[int, ...]:
        """The source slices that interpolation makes a wanted slice of."""
        weights = interpolation("cubic", self.source_positions(0, self.count), [wanted * self.spacing])[0]
        return tuple(int(index) for index in np.flatnonzero(np.abs(weights) > 1e-9))


def plan_slices(
    series: Series,
    spacing: float,
    profile: SliceProfile | None = None,
    *,
    assume_hu: bool = False,
    option: str = "slice_spacing",
) -> tuple[SliceGrid, list[str]]:
    """Where slices between the slices of a series lie.

    Args:
        series: as a scan found it.
        spacing: mm between the slices that are wanted.
        profile: of its slices; left out, a rectangle as wide as their headers say.
        assume_hu: see `ctsr.series.check`.
        option: what `spacing` was asked for with; messages say what to do about it.

    Returns:
        The grid, and a line for each thing that had to be assumed or does not fit.

    Raises:
        SeriesError: gaps, uneven steps, a tilted gantry, a single slice: there are no places between such slices.
        UsageError: the slices lie as near already.
    """
    try:
        notes = check(series, "volume", assume_hu=assume_hu)
    except SeriesError as error:
        raise SeriesError(f"{error} Without `{option}` it is made finer within slices.") from error
    if len(series.slices) < 2:
        raise SeriesError(f"{series.path}: a single slice, with none to put others between; leave out `{option}`")
    grid, _ = even_grid(series)
    distance = grid.spacing[0]
    if profile is None:
        profile, said = _stated_profile(series, distance)
        notes += said
    try:
        return SliceGrid(len(series.slices), distance, profile, spacing), notes
    except DomainError as error:
        raise UsageError(f"{series.path}: {error}; choose a smaller `{option}`") from error


@dataclass(frozen=True, eq=False)
class ThickenedVolume:
    """Thick slices that were made of thin ones, and the thin ones that are to come back."""

    truth: Block
    """(wanted, rows, columns), HU: the thin slices from the first thick slice to the last."""
    thick: Block
    """(count, rows, columns), HU."""
    grid: SliceGrid
    first: int
    """The thin slice that `truth` begins with."""
    padding: PaddingMask | None = None
    """Of the thick slices: where a thin slice that belongs to them was not reconstructed."""

    def pixels(self, index: int) -> SlicePixels:
        """A thick slice."""
        return SlicePixels.from_padded(self.thick[index], None if self.padding is None else self.padding[index])

    def interpolated(self, kind: AlongZ) -> Block:
        """The wanted slices by interpolation alone, (wanted, rows, columns), HU."""
        source = self.grid.source_positions(0, self.grid.count)
        return along_z(interpolation(kind, source, self.grid.wanted_positions(0, self.grid.num_wanted)), self.thick)

    def again(self, result: Block) -> Block:
        """What thickening makes of a result, but for the first and the last thick slice, which reach beyond it."""
        source = self.grid.source_positions(0, self.grid.count)
        wanted = self.grid.wanted_positions(0, self.grid.num_wanted)
        return along_z(thickening(self.grid.profile, source, wanted)[1:-1], result)


def thicken(
    thin: Block, step: float, profile: SliceProfile, distance: float, padding: PaddingMask | None = None
) -> ThickenedVolume:
    """Make thick slices of thin ones by a slice profile; none is ever dropped.

    The first thick slice lies on a thin one, and the profiles of all lie within the series.

    Args:
        thin: (slices, rows, columns), HU.
        step: from one thin slice to the next, mm.
        profile: of the thick slices, mm.
        distance: from one thick slice to the next, mm.
        padding: of the thin slices.

    Raises:
        DomainError: the thin slices are too few for three thick ones, or too far apart to be their truth.
    """
    if step * THIN_ENOUGH > distance * (1 + SAME_WITHIN):
        raise DomainError(f"slices {step:.4g} mm apart are no truth for slices {distance:g} mm apart")
    at = np.arange(len(thin)) * step
    # Thin slices end half a step beyond their middle.
    first = max(0, math.ceil((profile.reach - step / 2) / step - 1e-6))
    room = at[-1] + step / 2 - profile.reach - first * step
    count = math.floor(room / distance + 1e-6) + 1
    if count < FEWEST_THICK:
        raise DomainError(
            f"{len(thin)} slices {step:.4g} mm apart are too few for {FEWEST_THICK} slices of {profile.thickness:g} mm "
            f"{distance:g} mm apart"
        )
    grid = SliceGrid(count, distance, profile, step)
    weights = thickening(profile, at[first] + grid.source_positions(0, count), at)
    unknown = None if padding is None else along_z(weights, padding.astype(np.float32)) > 0
    return ThickenedVolume(thin[first : first + grid.num_wanted], along_z(weights, thin), grid, first, unknown)


def parse_profile(text: str) -> SliceProfile:
    """A profile as it is typed: `5` or `5,0.6`, width of the rectangle and standard deviation of the Gaussian in mm.

    Raises:
        UsageError: it is none.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
        if len(numbers) not in {1, 2}:
            raise ValueError
        return SliceProfile(*numbers)
    except (ValueError, DomainError) as error:
        raise UsageError(
            f"`slice_profile` {text}: expected the slice's thickness in mm, and after a comma the standard deviation "
            "of its blur, such as 5 or 5,0.6"
        ) from error


def _stated_profile(series: Series, distance: float) -> tuple[SliceProfile, list[str]]:
    """What the headers say of the thickness, and what is to be said about that."""
    stated = {header.slice_thickness for header in series.slices if header.slice_thickness is not None}
    remedy = "`slice_profile` says otherwise"
    if not stated:
        return SliceProfile(distance), [f"no SliceThickness: slices are taken to be {distance:.4g} mm thick; {remedy}"]
    thickness = float(np.median(sorted(stated)))
    notes: list[str] = []
    if max(stated) > min(stated) * (1 + SAME_WITHIN):
        notes.append(
            f"SliceThickness varies from {min(stated):g} to {max(stated):g} mm: {thickness:g} mm is taken; {remedy}"
        )
    if distance > thickness * 1.25:
        notes.append(
            f"slices of {thickness:g} mm lie {distance:.4g} mm apart: what lies in the gaps was never measured"
        )
    return SliceProfile(thickness), notes
