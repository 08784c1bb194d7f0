"""Quality of the slices of a series: whether their values fit the slices beside them, their noise and sharpness."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ctsr.exams import HU_DEFECTS, read_slice, read_volume
from ctsr.hashing import FEWEST_VALUES
from ctsr.padding import (
    BODY_ABOVE,
    CUT_BELOW,
    CUT_RANGE,
    FEWEST,
    LEAST_AIR,
    NEAR_AIR,
    PLAUSIBLE,
    SAMPLES,
    SHIFT_REFUSED,
    SOFT,
    HUFinding,
    SlicePixels,
    Values,
    Verdict,
    check_hu,
)
from ctsr.quality.noise import NoiseEstimate, measure_noise
from ctsr.quality.sharpness import SharpnessEstimate, measure_sharpness
from ctsr.reporting import Progress
from ctsr.series import Command, Defect, DefectKind, Series, check
from ctsr.volume import PaddingMask, Volume, VoxelsHU

AIR_VALUES = (-1000 - NEAR_AIR, -1000 + NEAR_AIR)
JUMP = 40.0
"""HU by which air or soft tissue of a slice lie on one side of what they are in both slices beside it. On real series,
the air of sound slices differs by at most 17; soft tissue gives way to bone over a wide range, not by one step."""
SPREAD = 60.0
"""HU between the quartiles of differences that are one step: noise, and not other anatomy."""
OTHER = 60.0
"""HU by which a pixel differs from the one beside it as it does where tissues meet, or where values are wrong."""
MORE_OTHER, MOST_OTHER = 0.03, 0.5
"""Share of the pixels by which a slice may differ from one beside it more than the slices to either side differ, and
share beyond which two slices are not alike at all."""
LEAST_EDGE = 0.1
"""Share of a row that the body has where a copy was cut short; where it ends of itself, it tapers off."""
LEAST_ROWS = 48
"""Rows of a sample without which the outline of a body is too coarse to tell."""
TOP_PIXELS, TOP_VALUES = 1000, 8
"""Of the pixels below the highest value, the highest ones, and how many different values of them are looked at."""
CUT_PIXELS, CUT_TIMES = 8, 4
"""Pixels at the highest value that make it a cut, if they are so many times those at any value just below: the values
of a body thin out upwards. In sound slices whose neighbours go on above, three such pixels are the most there are."""


UNLIKE = "unlike its series"
"""What a line about a single slice says, after the name of its file."""


def read_judged_volume(
    series: Series,
    command: Command,
    progress: Progress,
    *,
    assume_hu: bool = False,
    allow_gaps: bool = False,
) -> Volume:
    """Read a series as `ctsr.exams.read_volume` does, and judge each slice beside its neighbours.

    Args:
        series: as a scan found it.
        command: whose column of `ctsr.series.POLICY` holds.
        progress: told of each slice that is unlike its series.
        assume_hu: take stored values for HU where the header gives no rescale; refusals are warnings.
        allow_gaps: leave room for missing slices.

    Raises:
        SeriesError: a defect that a block cannot have, or a slice that `command` refuses.
        ReadError: a slice cannot be decoded.
    """
    judge = SliceJudge(series, command, assume_hu=assume_hu)

    def seen(index: int, pixels: SlicePixels) -> None:
        for warning in judge(index, pixels):
            progress.note(f"warning: {warning}")

    return read_volume(series, assume_hu=assume_hu, allow_gaps=allow_gaps, seen=seen)


class SliceJudge:
    """Judges the values of a series' slices as they are read, each beside its neighbours, for a command.

    A series whose values were doubted as a whole by the scan is not looked at again.
    """

    def __init__(self, series: Series, command: Command, *, assume_hu: bool = False) -> None:
        """Judge by the column of `command` in `ctsr.series.POLICY`; with `assume_hu`, refusals are warnings."""
        self._series, self._assume_hu = series, assume_hu
        self._command: Command = command
        doubted = any(defect.kind in {*HU_DEFECTS.values(), DefectKind.MISSING_RESCALE} for defect in series.defects)
        self._check = None if doubted else NeighbourCheck(len(series.slices))

    def defects(self, index: int, pixels: SlicePixels) -> list[Defect]:
        """Take a slice; returns what is wrong with slices that can be judged now."""
        found = [] if self._check is None else self._check.add(index, pixels.hu, pixels.padding)
        defects: list[Defect] = []
        for place, finding in found:
            header = self._series.slices[place]
            if finding.verdict is Verdict.REPEATED and header.position == self._series.slices[place - 1].position:
                continue  # the same image twice, which is another defect
            where = header.path.name if header.frame is None else f"{header.path.name}, slice {header.frame}"
            said = "" if finding.verdict is Verdict.REPEATED else "its values do not look like HU: "
            detail = f"{where}: {UNLIKE}, {said}{finding.detail}; export it again"
            defects.append(Defect(HU_DEFECTS[finding.verdict], detail, (place,)))
        return defects

    def __call__(self, index: int, pixels: SlicePixels) -> list[str]:
        """Take a slice; returns warnings about slices that can be judged now.

        Raises:
            SeriesError: the command refuses a series with such a slice.
        """
        judged = replace(self._series, defects=tuple(self.defects(index, pixels)))
        return check(judged, self._command, assume_hu=self._assume_hu)


@dataclass(frozen=True)
class SliceSample:
    """Some pixels of a slice, evenly spread."""

    hu: npt.NDArray[np.float32]
    """(rows, columns) of those pixels."""
    kept: PaddingMask
    """The same shape: True where there is a value and no padding."""
    top: npt.NDArray[np.float32]
    """The slice's highest values of all its pixels, sorted: those at its highest, and `TOP_PIXELS` below."""

    @classmethod
    def of(cls, hu: VoxelsHU, padding: PaddingMask | None = None) -> "SliceSample":
        """Of about `SAMPLES` pixels."""
        step = max(1, round((hu.size / SAMPLES) ** 0.5))
        thinned = hu[::step, ::step].astype(np.float32)
        kept = np.isfinite(thinned)
        whole = hu[np.isfinite(hu) if padding is None else np.isfinite(hu) & ~padding].astype(np.float32)
        return cls(thinned, kept if padding is None else kept & ~padding[::step, ::step], _top(whole))

    @property
    def finding(self) -> HUFinding:
        """Whether they look like HU by themselves."""
        return check_hu(self.hu, ~self.kept)

    def is_like(self, other: "SliceSample") -> bool:
        """Whether every pixel is the same, in values that noise never makes the same twice."""
        same = np.array_equal(self.hu, other.hu) and np.array_equal(self.top, other.top)
        return same and len(np.unique(self.values)) >= FEWEST_VALUES

    @property
    def values(self) -> Values:
        """Those that count."""
        return self.hu[self.kept].astype(np.float64)


class NeighbourCheck:
    """Judges the slices of a series one by one, in whatever order they are read.

    One slice may look like nothing because it holds a plate of a phantom or the top of a skull: it is doubted only
    where it also differs from what lies beside it as a whole, by one step, as other anatomy does not.
    """

    def __init__(self, count: int) -> None:
        """Of a series with `count` slices along its normal."""
        self._count = count
        self._samples: dict[int, SliceSample] = {}
        self._judged: set[int] = set()

    def add(self, index: int, hu: VoxelsHU, padding: PaddingMask | None = None) -> list[tuple[int, HUFinding]]:
        """Take a slice; returns those that can be judged now and are doubtful, each once, with the finding."""
        self._samples.setdefault(index, SliceSample.of(hu, padding))
        found: list[tuple[int, HUFinding]] = []
        for other in range(max(0, index - 2), min(self._count, index + 3)):
            needed = {other, *self._beside(other)}
            if other in self._judged or not needed <= self._samples.keys():
                continue
            self._judged.add(other)
            finding = self._finding(other)
            if finding.verdict is not Verdict.PLAUSIBLE:
                found.append((other, finding))
        return found

    def _beside(self, index: int) -> tuple[int, ...]:
        """Two slices to compare with: to either side; the nearest two at an end; fewer in a series of two or one."""
        if 0 < index < self._count - 1:
            return index - 1, index + 1
        step = 1 if index == 0 else -1
        return tuple(near for near in (index + step, index + 2 * step) if 0 <= near < self._count)

    def _finding(self, index: int) -> HUFinding:
        own = self._samples[index]
        others = [self._samples[near] for near in self._beside(index)]
        inside = 0 < index < self._count - 1
        if others and all(_is_cut_short(own, other) for other in others):
            detail = "one part of it is empty where the slices beside it go on: the copy was cut short"
            return HUFinding(Verdict.IMPLAUSIBLE, detail)
        alone = own.finding
        steps = [_steps(own, other) for other in others]
        is_moved = len(steps) > 1 and _is_one_way(steps)
        if is_moved and not inside and not any(air for air, _ in steps):
            # What a slice at an end shows may be new, as a plate of a phantom is: only its air tells for sure.
            return HUFinding(Verdict.SHIFTED, _moved(steps).detail) if alone.detail else PLAUSIBLE
        if alone.verdict is Verdict.SHIFTED and (is_moved or any(air for air, _ in steps)):
            # By how much it is off, the slices beside it tell better than its own anatomy.
            return HUFinding(Verdict.SHIFTED, _moved(steps).detail if is_moved else alone.detail)
        if alone.verdict is Verdict.IMPLAUSIBLE and not _agrees(own, others):
            is_between = inside and all(other.finding.verdict is Verdict.PLAUSIBLE for other in others)
            if is_between or is_moved or not all(_has_same_air(own, other) for other in others):
                return alone
        if is_moved:
            return _moved(steps)
        # Of two at the lower end, the second is told.
        if index and len(others) > 1 and own.is_like(others[0]) and not own.is_like(others[1]):
            return HUFinding(Verdict.REPEATED, "its pixels are those of the slice before it, a copy in its place")
        return _cut_off(own, others)


def _is_cut_short(own: SliceSample, other: SliceSample) -> bool:
    """Whether the first or last rows hold a single value where a body ends in a straight line that goes on beside."""
    if own.hu.shape != other.hu.shape or len(own.hu) < LEAST_ROWS:
        return False
    for here, there in ((own.hu, other.hu), (own.hu[::-1], other.hu[::-1])):
        (filled,) = np.nonzero((here != here[-1, -1]).any(axis=1))
        row = int(filled[-1]) if len(filled) else len(here) - 1
        if row >= len(here) - 2:
            continue
        body = here[row] > BODY_ABOVE
        goes_on = there[row + 1] > BODY_ABOVE
        if body.mean() > LEAST_EDGE and (body & goes_on).sum() > body.sum() / 2:
            return True
    return False


def _air(sample: SliceSample) -> PaddingMask:
    """Which of its pixels are air."""
    return sample.kept & (sample.hu >= AIR_VALUES[0]) & (sample.hu <= AIR_VALUES[1])


def _has_same_air(own: SliceSample, other: SliceSample) -> bool:
    """Whether what is air in `other` mostly is air in `own`; False where there is no air to tell by."""
    if own.hu.shape != other.hu.shape:
        return False
    air = own.kept & _air(other)
    if air.sum() < max(FEWEST, LEAST_AIR * air.size):
        return False
    return float(np.median(np.abs(own.hu[air] - other.hu[air]))) <= OTHER


def _agrees(own: SliceSample, others: Sequence[SliceSample]) -> bool:
    """Whether a slice is as like one of those beside it as these are to each other, in what they all show."""
    if not others or any(own.hu.shape != other.hu.shape for other in others):
        return False
    shares = [_share_other(own, other) for other in others]
    beside = _share_other(others[0], others[1]) if len(others) > 1 else 0.0
    return max(shares) <= MOST_OTHER and min(shares) <= beside + MORE_OTHER


def _share_other(own: SliceSample, other: SliceSample) -> float:
    """Share of the pixels of both that differ as other tissues do; 1 where too few are in both."""
    both = own.kept & other.kept
    if both.sum() < max(FEWEST, LEAST_AIR * both.size):
        return 1.0
    return float((np.abs(own.hu[both] - other.hu[both]) > OTHER).mean())


def _top(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The pixels at the highest value and the highest of those below, sorted."""
    if not len(values):
        return values
    highest = values.max()
    below = values[values < highest]
    below = np.partition(below, -TOP_PIXELS)[-TOP_PIXELS:] if len(below) > TOP_PIXELS else below
    return np.concatenate([np.sort(below), values[values == highest]])


def _cut_off(own: SliceSample, others: Sequence[SliceSample]) -> HUFinding:
    """Judge whether the values end at one that many pixels have, where the slices beside it go on."""
    if not others or len(own.top) <= CUT_PIXELS or own.top[-1] > CUT_BELOW:
        return PLAUSIBLE
    _, counts = np.unique(own.top, return_counts=True)
    cut, below = int(counts[-1]), counts[:-1][-TOP_VALUES:].max(initial=1)
    goes_on = all((other.top > own.top[-1]).sum() >= CUT_PIXELS for other in others)
    if cut < max(CUT_PIXELS, CUT_TIMES * below) or not goes_on or own.top[-1] - own.values.min() <= CUT_RANGE:
        return PLAUSIBLE
    detail = (
        f"{cut} pixels have its highest value, {own.top[-1]:g}, and the slices beside it go on above: it is cut off"
    )
    return HUFinding(Verdict.CUT_OFF, detail)


def _is_one_way(steps: Sequence[tuple[float, float]]) -> bool:
    """Whether air, or soft tissue, lies on the same side of both slices beside it."""
    air, soft = zip(*steps, strict=True)
    return min(air) > 0 or max(air) < 0 or min(soft) > 0 or max(soft) < 0


def _steps(own: SliceSample, other: SliceSample) -> tuple[float, float]:
    """By how much air and soft tissue of `other` differ in `own`, HU; 0 where they do not, or not alike."""
    if own.hu.shape != other.hu.shape:
        return 0.0, 0.0
    both = own.kept & other.kept
    here, there = own.hu[both].astype(np.float64), other.hu[both]
    air = (there >= AIR_VALUES[0]) & (there <= AIR_VALUES[1])
    soft = (there >= SOFT[0]) & (there <= SOFT[1])
    return _step((here - there)[air], here.size), _step((here - there)[soft], here.size)


def _step(differences: Values, count: int) -> float:
    """The median of differences that are one step; 0 where there is none, or where they are few of `count`."""
    if len(differences) < max(FEWEST, LEAST_AIR * count):
        return 0.0
    low, middle, high = np.percentile(differences, [25, 50, 75])
    is_step = abs(middle) > JUMP and high - low <= max(SPREAD, abs(middle) / 2)
    return float(middle) if is_step else 0.0


def _moved(steps: Sequence[tuple[float, float]]) -> HUFinding:
    """The finding on a slice that differs from each of those beside it."""
    air, soft = min(steps, key=lambda step: max(map(abs, step)))
    detail = f"its air lies {air:+.0f} HU and its soft tissue {soft:+.0f} HU from that of the slices beside it"
    # Soft tissue alone may be a plate of a phantom.
    return HUFinding(Verdict.IMPLAUSIBLE if abs(air) >= SHIFT_REFUSED else Verdict.SHIFTED, detail)


SLICES = 5
"""Looked at in a series, unless told otherwise."""


@dataclass(frozen=True)
class SeriesQuality:
    """What was measured in a series, and where."""

    noise: NoiseEstimate
    sharpness: SharpnessEstimate
    slice_indices: tuple[int, ...]


def spread_indices(count: int, most: int = SLICES) -> tuple[int, ...]:
    """Indices of up to `most` slices spread evenly over a series of `count`, not its very ends."""
    if count <= most:
        return tuple(range(count))
    return tuple(int((i + 0.5) * count / most) for i in range(most))


def measure_series(series: Series, *, slices: int = SLICES, assume_hu: bool = False) -> SeriesQuality:
    """Noise and sharpness of a series.

    Args:
        series: as a scan found it.
        slices: how many are decoded at most.
        assume_hu: take stored values for HU where the header gives no rescale.

    Raises:
        ReadError: a slice cannot be decoded, or has no rescale.
    """
    indices = spread_indices(len(series.slices), slices)
    found = [read_slice(series, index, assume_hu=assume_hu) for index in indices]
    return quality_of(found, series.pixel_spacing, indices)


def quality_of(
    slices: Sequence[SlicePixels], pixel_spacing: tuple[float, float], slice_indices: tuple[int, ...]
) -> SeriesQuality:
    """The same of slices that have been read already.

    Args:
        slices: of one series, at least one.
        pixel_spacing: mm between rows, between columns.
        slice_indices: where they lie in their series.
    """
    hu, paddings = [pixels.hu for pixels in slices], [pixels.padding for pixels in slices]
    noise = measure_noise(hu, pixel_spacing, paddings)
    return SeriesQuality(noise, measure_sharpness(hu, pixel_spacing, paddings), slice_indices)
