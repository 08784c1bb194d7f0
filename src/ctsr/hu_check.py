"""Whether values look like Hounsfield units: air near -1000, soft tissue near 0 to 100, and nothing else as likely.

A series is judged by a slice or three (`check_hu`), single slices of it by what lies beside them (`NeighbourCheck`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from ctsr.volume import PaddingMask, VoxelsHU

SAMPLES = 4096
"""Pixels of a slice that are looked at, evenly spread."""
FEWEST = 64
"""Pixels beside padding without which nothing can be said."""
NEAR_AIR = 100.0
"""HU about the value of air …"""
SOFT = (-150.0, 250.0)
"""… and HU of fat, water, soft tissue and blood."""
BODY_ABOVE = -500.0
"""HU that part the body from air and lung."""
PEAK_WIDTH = 100.0
"""HU: soft tissue is a narrow peak, unlike bone, contrast and lung."""
LEAST_PEAK = 0.25
"""Of the body's pixels, within `PEAK_WIDTH`."""
LEAST_AIR, LEAST_SOFT = 0.02, 0.02
"""Shares of the pixels without which another offset is not considered."""
BETTER_BY = 0.03
"""Share of the pixels by which another reading must explain more …"""
ENOUGH = 0.5
"""… and explain at all."""
LEAST_LIKE = 0.02
"""Share of air or soft tissue that any slice of a patient or phantom has."""
SHIFT_REFUSED = 400.0
"""HU: a smaller shift is one of cone-beam scanners, which are not calibrated."""
SHIFT_WARNED = 120.0
STEP = 10.0
"""HU between the offsets that are tried."""
SMALL_RANGE = 20.0
"""Values that differ by less, and are no whole numbers, are scaled: -1 … 1, or z-scores."""
EIGHT_BITS = 255
SATURATED = 0.2
"""Share of the pixels at one end of 256 grey values: a window has cut off what lies beyond."""
LOST_SIGN, HUGE_SHARE = 20000.0, 0.05
"""HU beyond which no more than metal's few pixels lie, and the share of pixels that is too many."""
SCALES = (0.5, 2.0, 0.1, 10.0, 0.25, 4.0)
"""Factors that a wrong slope is tried for."""
CUT_ABOVE, CUT_RANGE = -900.0, 100.0
"""HU: a lowest value above this that much of the image has is a window's end; in a range of at least …"""
BELOW_AIR, BELOW_AIR_SHARE = -1150.0, 0.05
"""HU below which no more than noise lies, and the share of pixels that is too many if other slopes do better."""
STRETCHES = (1.5, 2.0)
"""Factors by which HU may be stretched about 0, as by a slope of NIfTI."""
STRETCHED_BY = 0.1
"""Share of the pixels by which HU must be more like HU once they are divided by such a factor."""
CUT_SHARE, CUT_BELOW = 0.004, 2500.0
"""Share of the pixels at the highest value that is a window's end; and HU above which it is metal's, cut by 12 bits."""
LEAST_BODY, LEAST_SOFT_BODY = 0.05, 0.2
"""Share of the pixels without which nothing is said of the body, and of soft tissue in every body."""
AIR_VALUES = (-1000 - NEAR_AIR, -1000 + NEAR_AIR)
JUMP = 60.0
"""HU by which three quarters of air or soft tissue lie on one side of what they are in the slice beside it. On real
series, sound slices differ by at most 17 in air; soft tissue gives way to bone over a wide range, not by one step."""
LEAST_EDGE = 0.1
"""Share of a row that the body has where a copy was cut short; where it ends of itself, it tapers off."""
LEAST_ROWS = 48
"""Rows of a sample without which the outline of a body is too coarse to tell."""
BEYOND_CUT = 0.001
"""Share of the pixels of a slice beside it that lie above the highest value of one that is cut off."""

Values = npt.NDArray[np.float64]


class Verdict(Enum):
    """What the values of a slice or series are, as far as they tell."""

    PLAUSIBLE = "plausible"
    SHIFTED = "shifted"
    CUT_OFF = "cut off"
    IMPLAUSIBLE = "implausible"


@dataclass(frozen=True)
class HUFinding:
    """A verdict on a slice's values, and why."""

    verdict: Verdict
    detail: str = ""
    """What the values look like and which arguments correct them; empty where they are plausible."""


PLAUSIBLE = HUFinding(Verdict.PLAUSIBLE)


@dataclass(frozen=True)
class SliceSample:
    """Some pixels of a slice, evenly spread."""

    hu: npt.NDArray[np.float32]
    """(rows, columns) of those pixels."""
    kept: PaddingMask
    """The same shape: True where there is a value and no padding."""

    @classmethod
    def of(cls, hu: VoxelsHU, padding: PaddingMask | None = None) -> "SliceSample":
        """Of about `SAMPLES` pixels."""
        step = max(1, round((hu.size / SAMPLES) ** 0.5))
        thinned = hu[::step, ::step].astype(np.float32)
        kept = np.isfinite(thinned)
        return cls(thinned, kept if padding is None else kept & ~padding[::step, ::step])

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
            return _implausible("one part of it is empty where the slices beside it go on: the copy was cut short")
        if others and all(_has_padding_for_air(own, other) for other in others):
            return _implausible(
                "where the slices beside it have air, its values lie below: slope or intercept is wrong"
            )
        alone = check_sample(own)
        steps = [_steps(own, other) for other in others]
        is_moved = len(steps) > 1 and all(map(any, steps))
        if is_moved and not inside and not any(air for air, _ in steps):
            # What a slice at an end shows may be new, as a plate of a phantom is: only its air tells for sure.
            return HUFinding(Verdict.SHIFTED, alone.detail) if alone.detail else PLAUSIBLE
        if alone.verdict is Verdict.SHIFTED and (is_moved or any(air for air, _ in steps)):
            return alone
        if alone.verdict is Verdict.IMPLAUSIBLE:
            is_between = inside and all(check_sample(other).verdict is Verdict.PLAUSIBLE for other in others)
            if is_between or is_moved or not all(_has_same_air(own, other) for other in others):
                return alone
        if alone.verdict is Verdict.CUT_OFF:
            highest = float(own.values.max())
            beyond = max((float((other.values > highest).mean()) for other in others), default=0.0)
            return alone if beyond > BEYOND_CUT else PLAUSIBLE
        return _moved(steps) if is_moved else PLAUSIBLE


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


def _has_padding_for_air(own: SliceSample, other: SliceSample) -> bool:
    """Whether most of what is air in `other` counts as padding in `own`, being lower than any air."""
    if own.hu.shape != other.hu.shape:
        return False
    air = _air(other)
    return bool(air.sum() >= max(FEWEST, LEAST_AIR * air.size) and own.kept[air].mean() < 0.5)


def _has_same_air(own: SliceSample, other: SliceSample) -> bool:
    """Whether what is air in `other` mostly is air in `own`; False where there is no air to tell by."""
    if own.hu.shape != other.hu.shape:
        return False
    air = own.kept & _air(other)
    if air.sum() < max(FEWEST, LEAST_AIR * air.size):
        return False
    return float(np.median(np.abs(own.hu[air] - other.hu[air]))) <= JUMP


def _steps(own: SliceSample, other: SliceSample) -> tuple[float, float]:
    """By how much air and soft tissue of `other` differ in `own`, HU; 0 where they do not, or not alike."""
    if own.hu.shape != other.hu.shape:
        return 0.0, 0.0
    both = own.kept & other.kept
    here, there = own.hu[both].astype(np.float64), other.hu[both]
    air, soft = (_step((here - there)[(there >= low) & (there <= high)], here.size) for low, high in (AIR_VALUES, SOFT))
    return air, soft


def _step(differences: Values, count: int) -> float:
    """The median of differences that are one step; 0 where there is none, or where they are few of `count`."""
    if len(differences) < max(FEWEST, LEAST_AIR * count):
        return 0.0
    low, middle, high = np.percentile(differences, [25, 50, 75])
    is_step = (low > JUMP or high < -JUMP) and high - low <= max(JUMP, abs(middle) / 2)
    return float(middle) if is_step else 0.0


def _moved(steps: Sequence[tuple[float, float]]) -> HUFinding:
    """The finding on a slice that differs from each of those beside it."""
    air, soft = min(steps, key=lambda step: max(map(abs, step)))
    detail = f"its air lies {air:+.0f} HU and its soft tissue {soft:+.0f} HU from that of the slices beside it"
    # Soft tissue alone may be a plate of a phantom.
    return HUFinding(Verdict.IMPLAUSIBLE if abs(air) >= SHIFT_REFUSED else Verdict.SHIFTED, detail)


def check_hu(hu: VoxelsHU, padding: PaddingMask | None = None) -> HUFinding:
    """Judge whether the values of one axial slice can be HU.

    Args:
        hu: (rows, columns), HU as the header makes them.
        padding: pixels that were not reconstructed, which do not count.
    """
    return check_sample(SliceSample.of(hu, padding))


def check_sample(sample: SliceSample) -> HUFinding:
    """`check_hu` of what was taken from a slice."""
    values = sample.values
    if len(values) < FEWEST:
        return PLAUSIBLE
    low, high = float(values.min()), float(values.max())
    is_whole = bool((np.abs(values - values.round()) < 1e-3).mean() > 0.5)
    if high - low < SMALL_RANGE and not is_whole:
        return _implausible(f"its values lie between {low:.3g} and {high:.3g}, as if scaled to −1 … 1 or z-scores")
    huge = float((values > LOST_SIGN).mean())
    if huge > HUGE_SHARE:
        return _implausible(f"{huge:.0%} of its values are above {LOST_SIGN:g}: a sign is lost, or the slope is wrong")
    ends = max(float((values == low).mean()), float((values == high).mean()))
    if is_whole and 100 < high - low <= EIGHT_BITS and (low >= 0 or ends > SATURATED):
        return _implausible(f"its values are whole numbers from {low:g} to {high:g}: windowed to 8 bits")
    if low > CUT_ABOVE and high - low > CUT_RANGE and (cut := float((values == low).mean())) > SATURATED:
        return _implausible(f"{cut:.0%} of its values are {low:g}, and none lies below: a window has cut them off")
    return _compared(np.sort(values))


def _compared(values: Values) -> HUFinding:
    """Compare HU as they are with other offsets and slopes.

    Args:
        values: sorted.
    """
    own = _explained(values, 0.0)
    shift, likeness = _best_shift(values)
    if likeness >= max(ENOUGH, own + BETTER_BY):
        if abs(shift) >= SHIFT_REFUSED:
            return _implausible(
                f"air lies near {shift - 1000:.0f} and soft tissue near {shift + 40:.0f}, as in HU {shift:+.0f}; "
                f"{_remedy(-shift)}"
            )
        if abs(shift) >= SHIFT_WARNED:
            return HUFinding(Verdict.SHIFTED, f"its HU seem shifted by {shift:+.0f}; {_remedy(-shift)}")
    for scale in SCALES if own < ENOUGH else ():
        shift, likeness = _best_shift(values / scale)
        if likeness >= max(ENOUGH, own + 0.3):
            return _implausible(
                f"its values look like HU × {scale:g} {scale * shift:+.0f}; pass `hu_scale` {1 / scale:g} and "
                f"`hu_offset` {-shift:.0f} if so"
            )
    if own < LEAST_LIKE:
        return _implausible(f"neither air near −1000 nor soft tissue near 0 is in it ({values[0]:g} … {values[-1]:g})")
    return _stretched(values, own)


def _stretched(values: Values, own: float) -> HUFinding:
    """Judge whether a slope has moved air or soft tissue away from where they belong.

    Args:
        values: sorted.
        own: share of them that are air or soft tissue as they are.
    """
    below = _share(values, -np.inf, BELOW_AIR)
    unstretched = max(_explained(values / factor, 0.0) for factor in STRETCHES)
    if below > BELOW_AIR_SHARE and unstretched >= max(ENOUGH, own + STRETCHED_BY):
        return _implausible(f"{below:.0%} of its values lie below {BELOW_AIR:g}, where nothing is: its slope is wrong")
    body = _share(values, BODY_ABOVE, np.inf)
    soft = _share(values, *SOFT)
    if body > LEAST_BODY and soft < LEAST_SOFT_BODY * body:
        return _implausible(
            f"of what is denser than lung, only {soft / body:.0%} lies near soft tissue ({SOFT[0]:g} to {SOFT[1]:g}): "
            "its slope is wrong, or a window was applied"
        )
    return _cut_off(values)


def _cut_off(values: Values) -> HUFinding:
    """Judge whether bone and contrast have lost their values, as in HU clipped to −1000 … 400."""
    low, high = values[0], values[-1]
    share = _share(values, high, np.inf)
    if high - low <= CUT_RANGE or high > CUT_BELOW or share < CUT_SHARE:
        return PLAUSIBLE
    return HUFinding(Verdict.CUT_OFF, f"{share:.1%} of its values are {high:g}, and none lies above: they are cut off")


def _remedy(offset: float) -> str:
    near = min((1000.0, 1024.0, -1000.0, -1024.0), key=lambda usual: abs(usual - offset))
    return f"pass `hu_offset` {near if abs(near - offset) <= 40 else offset:.0f} if so"


def _implausible(detail: str) -> HUFinding:
    return HUFinding(Verdict.IMPLAUSIBLE, detail)


def _explained(values: Values, shift: float) -> float:
    """Share of sorted values that are air or soft tissue if HU are shifted by so much."""
    air = _share(values, shift - 1000 - NEAR_AIR, shift - 1000 + NEAR_AIR)
    return air + _share(values, shift + SOFT[0], shift + SOFT[1])


def _share(values: Values, low: float, high: float) -> float:
    first, last = np.searchsorted(values, (low, high))
    return float(last - first) / len(values)


def _best_shift(values: Values) -> tuple[float, float]:
    """The shift that explains most of the sorted values as air and soft tissue, both present, and that share."""
    shifts = np.arange(values[0] - 1000, min(values[-1], values[0] + 70000) + STEP, STEP)
    edges = (-1000 - NEAR_AIR, -1000 + NEAR_AIR, *SOFT)
    found = np.searchsorted(values, shifts[:, None] + np.array(edges)) / len(values)
    air, soft = found[:, 1] - found[:, 0], found[:, 3] - found[:, 2]
    explained = np.where((air >= LEAST_AIR) & (soft >= LEAST_SOFT), air + soft, 0)
    best = float(explained.max(initial=0))
    if not best:
        return 0.0, 0.0
    # The middle of those that are as good, since the bands are wider than the peaks; then from the air itself.
    shift = float(shifts[explained >= best - 0.002].mean())
    if not _has_peak(values, shift):
        return 0.0, 0.0
    first, last = np.searchsorted(values, (shift + edges[0], shift + edges[1]))
    return (float(np.median(values[first:last])) + 1000 if last > first else shift), best


def _has_peak(values: Values, shift: float) -> bool:
    """Whether the body is mostly one narrow peak of soft tissue, which bone and contrast are not."""
    body = _share(values, shift + BODY_ABOVE, shift + 10000)
    starts = shift + np.arange(SOFT[0], SOFT[1] - PEAK_WIDTH + 1, 25)
    peak = max(_share(values, start, start + PEAK_WIDTH) for start in starts.tolist())
    return peak >= LEAST_PEAK * body > 0
