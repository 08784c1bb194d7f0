"""Where the slices of a series lie along their normal, and where the slices between them are wanted."""

import math
from dataclasses import dataclass

import numpy as np

from ctsr.errors import DomainError, SeriesError, UsageError
from ctsr.exams import even_grid
from ctsr.padding import SlicePixels
from ctsr.series import Series, check
from ctsr.through_plane.slice_profile import AlongZ, Block, Matrix, SliceProfile, along_z, interpolation, thickening
from ctsr.volume import PaddingMask

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
            raise DomainError(f"`slice_spacing` is at least {LEAST_SPACING_MM:g} mm, got {self.spacing:g}")
        if self.spacing >= self.distance * (1 - SAME_WITHIN):
            raise DomainError(
                f"the slices lie {self.distance:.4g} mm apart already: `slice_spacing` {self.spacing:g} makes nothing "
                "finer"
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
    series: Series, spacing: float, profile: SliceProfile | None = None, *, assume_hu: bool = False
) -> tuple[SliceGrid, list[str]]:
    """Where slices between the slices of a series lie.

    Args:
        series: as a scan found it.
        spacing: mm between the slices that are wanted.
        profile: of its slices; left out, a rectangle as wide as their headers say.
        assume_hu: see `ctsr.series.check`.

    Returns:
        The grid, and a line for each thing that had to be assumed or does not fit.

    Raises:
        SeriesError: gaps, uneven steps, a tilted gantry, a single slice: there are no places between such slices.
        UsageError: the slices lie as near already.
    """
    notes = check(series, "volume", assume_hu=assume_hu)
    if len(series.slices) < 2:
        raise SeriesError(f"{series.path}: a single slice, with none to put others between; leave out `slice_spacing`")
    grid, _ = even_grid(series)
    distance = grid.spacing[0]
    if profile is None:
        profile, said = _stated_profile(series, distance)
        notes += said
    try:
        return SliceGrid(len(series.slices), distance, profile, spacing), notes
    except DomainError as error:
        raise UsageError(f"{series.path}: {error}") from error


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
