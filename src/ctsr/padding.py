"""Which pixels of a slice were never reconstructed, and whether the others look like Hounsfield units."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ctsr.hu import AIR
from ctsr.volume import PaddingMask, Plane, Volume, VoxelsHU

FILL_BELOW = -1100.0
"""HU: nothing physical lies here over a whole region, scanners clip at −1024 and noise goes both ways."""
ABOVE_AIR = -900.0
"""HU: a constant corner brighter than this is not a scanner's fill but part of the image."""
SMALLEST_RADIUS = 0.45
"""Smallest radius of a reconstruction circle, in units of the image's shorter side; round phantoms are smaller."""
SHORTEST_RUN = 4
"""Pixels: shorter runs of the fill value at a border are clipped noise of true air."""
FEWEST_POINTS = 24
"""Points on the rim that make a circle believable."""
TRIALS = 200
"""Circles tried: where a third of the points lie on the rim, one of them is right with 99.9 % certainty."""
FILLED_OUTSIDE = 0.8
"""Least share of fill outside the circle; tables and streaks are reconstructed a little beyond it."""
FILLED_INSIDE = 0.5
"""Most fill in the band just inside: air there may be clipped, but not all of it."""

Points: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SlicePixels:
    """One slice in HU; padding reads as air and is remembered."""

    hu: VoxelsHU
    """(rows, columns), float32; −1000 where `padding` is True."""
    padding: PaddingMask | None
    """(rows, columns); None where every pixel was reconstructed."""

    @classmethod
    def from_padded(cls, hu: VoxelsHU, padding: PaddingMask | None) -> "SlicePixels":
        """A slice whose padded pixels, whatever they hold, are set to air."""
        if padding is None or not padding.any():
            return cls(hu, None)
        return cls(np.where(padding, np.float32(AIR), hu), padding)


def is_below_air(hu: float) -> bool:
    """True for a value in HU that only a fill can have."""
    return hu < FILL_BELOW


def connected_to_border(mask: PaddingMask) -> PaddingMask:
    """Those parts of a (rows, columns) mask that touch the image's border (4-neighbourhood)."""
    labels = cast("npt.NDArray[np.int32]", ndimage.label(mask)[0])  # pyright: ignore[reportIndexIssue]
    touching = np.zeros(int(labels.max()) + 1, dtype=np.bool_)
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        touching[border] = True
    touching[0] = False
    return touching[labels]


def outside_reconstruction(hu: VoxelsHU) -> PaddingMask | None:
    """The fill outside the reconstruction circle, found without any header; None where there is none.

    A fill below −1100 HU is recognised by its value and by reaching the corners. A fill of about −1024 HU looks
    like clipped air, so there the boundary must be a circle, of constant value outside and not inside.

    Args:
        hu: (rows, columns), HU.
    """
    corners = hu[[0, -1]][:, [0, -1]].ravel()
    low = float(np.median(corners))
    if is_below_air(low):
        # Lossy compression leaves no constant: half way to air separates the fill from the image there.
        constant = bool((corners == corners[0]).all())
        return connected_to_border(hu == corners[0] if constant else hu < (low + AIR) / 2)
    values, counts = np.unique(corners, return_counts=True)
    fill = float(values[counts.argmax()])
    if counts.max() < 2 or fill > ABOVE_AIR:
        return None
    return _outside_circle(hu == np.float32(fill))


def _outside_circle(filled: PaddingMask) -> PaddingMask | None:
    circle = _fit(_rim(filled), smallest_radius=SMALLEST_RADIUS * min(filled.shape))
    if circle is None:
        return None
    row, column, radius = circle
    rows, columns = np.ogrid[: filled.shape[0], : filled.shape[1]]
    # Squares: a root for each pixel would cost more than all the rest.
    square = ((rows - row) ** 2).astype(np.float32) + ((columns - column) ** 2).astype(np.float32)
    beyond = square > (radius + 1.5) ** 2
    rim = square > (radius - 1.5) ** 2
    band = (square > (radius - 5) ** 2) & ~rim
    if not beyond.any() or filled[beyond].mean() < FILLED_OUTSIDE or filled[band].mean() > FILLED_INSIDE:
        return None
    return filled & rim


def _rim(filled: PaddingMask) -> Points:
    """(points, 2): row and column where runs of fill that start at the border end, along rows and along columns."""
    height, width = filled.shape
    left, right = _runs(filled), _runs(filled[:, ::-1])
    top, bottom = _runs(filled.T), _runs(filled.T[:, ::-1])
    right[:, 1] = width - 1 - right[:, 1]
    bottom[:, 1] = height - 1 - bottom[:, 1]
    return np.concatenate([left, right, top[:, ::-1], bottom[:, ::-1]])


def _runs(filled: PaddingMask) -> Points:
    """(runs, 2): line, and where the run of fill at its start ends; of runs long enough that do end."""
    ends = np.where(filled.all(axis=1), 0, filled.argmin(axis=1))
    lines = np.flatnonzero(ends >= SHORTEST_RUN)
    return np.column_stack([lines, ends[lines] - 0.5]).astype(np.float64)


def _fit(points: Points, *, smallest_radius: float) -> Points | None:
    """(row, column, radius) of the circle most points lie on; None where no large circle holds enough of them.

    Consensus first (RANSAC: circles through three points each), then least squares on the points that agree,
    because clipped air moves many points inwards and a mean would follow them.
    """
    if len(points) < FEWEST_POINTS:
        return None
    triples = np.random.default_rng(0).choice(points, size=(TRIALS, 3))
    flat = np.linalg.det(_system(triples)) == 0
    circles = _solved(triples[~flat])
    circles = circles[circles[:, 2] >= smallest_radius]
    if not len(circles):
        return None
    sample = points[:: max(1, len(points) // 300)]
    best = circles[_on(circles, sample).sum(axis=1).argmax()]
    near = points[_on(best[None], points)[0]]
    if len(near) < max(FEWEST_POINTS, len(points) // 4):
        return None
    a, b, c = np.linalg.lstsq(_system(near), (near**2).sum(axis=-1), rcond=None)[0]
    return np.array([a / 2, b / 2, np.sqrt(c + (a * a + b * b) / 4)])


def _system(points: Points) -> Points:
    """(…, points, 3): the linear equations a·row + b·column + c = row² + column² of circles (Kåsa 1976)."""
    return np.concatenate([points, np.ones((*points.shape[:-1], 1))], axis=-1)


def _solved(triples: Points) -> Points:
    """(circles, 3): row, column and radius of the circle through each (circles, 3, 2) three points."""
    solution = np.linalg.solve(_system(triples), (triples**2).sum(axis=-1, keepdims=True))[..., 0]
    centre = solution[:, :2] / 2
    square = solution[:, 2] + (centre**2).sum(axis=1)
    return np.column_stack([centre, np.sqrt(square.clip(0))])


def _on(circles: Points, points: Points) -> npt.NDArray[np.bool_]:
    """(circles, points): True where a point lies within a pixel of a circle."""
    row, column, radius = circles.T[:, :, None]
    # Not hypot: it guards against overflow, at many times the cost.
    distance = np.sqrt((points[:, 0] - row) ** 2 + (points[:, 1] - column) ** 2)
    return np.abs(distance - radius) <= 1


def plane_of(volume: Volume) -> Plane:
    """The raster of the first slice of a volume."""
    grid = volume.grid
    return Plane(grid.shape[1:], grid.spacing[1:], grid.origin, grid.directions[1:])


def slice_of(volume: Volume, index: int) -> SlicePixels:
    """One slice of a volume, with its padding."""
    padding = None if volume.padding is None else volume.padding[index]
    return SlicePixels.from_padded(volume.hu[index], padding)


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
"""Fraction of the body's pixels within `PEAK_WIDTH`."""
LEAST_AIR, LEAST_SOFT = 0.02, 0.02
"""Shares of the pixels without which another offset is not considered."""
BETTER_BY, ENOUGH = 0.03, 0.5
"""Shares of the pixels by which another reading must explain more, and that it must explain at all."""
LEAST_LIKE = 0.02
"""Share of air or soft tissue that any slice of a patient or phantom has."""
SHIFT_REFUSED = 400.0
"""HU: a smaller shift is one of cone-beam scanners, which are not calibrated."""
SHIFT_WARNED = 150.0
"""HU: lungs in deep inspiration lie 120 above air, and look like it in a slice whose air is padding."""
STEP = 10.0
"""HU between the offsets that are tried."""
SMALL_RANGE = 20.0
"""Values that differ by less and are not whole numbers are scaled: -1 … 1, or z-scores."""
EIGHT_BITS = 255
SATURATED = 0.2
"""Share of the pixels at one end of 256 grey values: a window has cut off what lies beyond."""
DENSE, MOST_DENSE = 600.0, 0.3
"""HU of bone, contrast and metal, and the share of the pixels that is too many: of real slices, up to 0.06."""
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
SHRUNK, LEAST_SHRUNK_AIR, THINNER = (2 / 3, 0.5, 0.25), 0.1, 0.15
"""Factors by which HU may be shrunk about 0, as by a slope that was applied to HU; the share of air that shows, and how
many values as many lie below it at most."""
INVERTED_BONE, INVERTED_TOP, TOP_SHARE, FILLED = (0.005, 0.2), 150.0, 0.999, 0.05
"""Share of the pixels below `BELOW_AIR`, and the value that all but the highest stay below, where dark and bright are
exchanged: bone is denser than soft tissue, and nothing is thinner than air. More of one highest value is padding."""
CUT_SHARE, CUT_BELOW = 0.004, 2500.0
"""Share of the pixels at the highest value that is a window's end; and HU above which it is metal's, cut by 12 bits."""
LEAST_BODY, LEAST_SOFT_BODY = 0.05, 0.2
"""Share of the pixels without which nothing is said of the body, and of soft tissue in every body."""

Values = npt.NDArray[np.float64]


class Verdict(Enum):
    """What the values of a slice or series are, as far as they tell; the mildest first."""

    PLAUSIBLE = "plausible"
    SHIFTED = "shifted"
    CUT_OFF = "cut off"
    REPEATED = "repeated"
    IMPLAUSIBLE = "implausible"


@dataclass(frozen=True)
class HUFinding:
    """A verdict on a slice's values, and why."""

    verdict: Verdict
    detail: str = ""
    """What the values look like; empty where they are plausible."""
    remedy: str = ""
    """Which arguments correct a whole series of such slices, where some do."""

    @property
    def text(self) -> str:
        """Both."""
        return "; ".join(filter(None, (self.detail, self.remedy)))


PLAUSIBLE = HUFinding(Verdict.PLAUSIBLE)


def check_hu(hu: VoxelsHU, padding: PaddingMask | None = None) -> HUFinding:
    """Judge whether the values of one axial slice can be HU.

    Args:
        hu: (rows, columns), HU as the header makes them.
        padding: pixels that were not reconstructed, which do not count.
    """
    values = _sample(hu, padding)
    if len(values) < FEWEST:
        return PLAUSIBLE
    low, high = float(values.min()), float(values.max())
    # Without the lowest value: air that a converter made even is −1 exactly where HU were scaled to −1 … 1.
    rest = values[values > low]
    is_whole = bool((np.abs(rest - rest.round()) < 1e-3).mean() > 0.5) if len(rest) else True
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


def check_slices(count: int, middle: int, finding_of: Callable[[int], HUFinding]) -> HUFinding:
    """Judge whether the values of a series or volume can be HU, by a few of its slices.

    The middle slice decides where it is plausible. Else two more are looked at, since a single one may hold nothing but
    bone or metal; where they disagree, the mildest verdict holds.

    Args:
        count: slices.
        middle: index of the one that is looked at first.
        finding_of: judges one by its index.
    """
    last = count - 1
    findings = [finding_of(middle)]
    if findings[0].verdict is not Verdict.PLAUSIBLE:
        findings += [finding_of(index) for index in sorted({last // 4, 3 * last // 4} - {middle})]
    verdicts = {finding.verdict for finding in findings}
    mildest = next(verdict for verdict in Verdict if verdict in verdicts)
    return PLAUSIBLE if mildest is Verdict.PLAUSIBLE else replace(findings[0], verdict=mildest)


def _compared(values: Values) -> HUFinding:
    """Compare HU as they are with other offsets and slopes.

    Args:
        values: sorted.
    """
    if _is_inverted(values):
        return _implausible("dark and bright are exchanged; pass `hu_scale` -1 and `hu_offset` -1000 if so")
    own, (shift, likeness) = _explained(values, 0.0), _best_shift(values)
    if likeness >= max(ENOUGH, own + BETTER_BY):
        if abs(shift) >= SHIFT_REFUSED:
            return _implausible(
                f"air lies near {shift - 1000:.0f} and soft tissue near {shift + 40:.0f}, as in HU {shift:+.0f}",
                _remedy(-shift),
            )
        if abs(shift) >= SHIFT_WARNED:
            return HUFinding(Verdict.SHIFTED, f"its HU seem shifted by {shift:+.0f}", _remedy(-shift))
    for scale in SCALES if own < ENOUGH else ():
        shift, likeness = _best_shift(values / scale)
        if likeness >= max(ENOUGH, own + 0.3):
            return _implausible(
                f"its values look like HU × {scale:g} {scale * shift:+.0f}",
                f"pass `hu_scale` {1 / scale:g} and `hu_offset` {-shift:.0f} if so",
            )
    if own < LEAST_LIKE:
        return _implausible(f"neither air near −1000 nor soft tissue near 0 is in it ({values[0]:g} … {values[-1]:g})")
    if (dense := _share(values, DENSE, np.inf)) > MOST_DENSE:
        return _implausible(f"{dense:.0%} of its values are above {DENSE:g}, as of bone: its offset or slope is wrong")
    return _stretched(values, own)


def _is_inverted(values: Values) -> bool:
    """Whether bone lies below air, and nothing above soft tissue but padding that was inverted as well."""
    count = int(np.searchsorted(values, values[-1]))
    inside = values[:count] if FEWEST <= count < (1 - FILLED) * len(values) else values
    has_bone = INVERTED_BONE[0] < _share(inside, -np.inf, BELOW_AIR) < INVERTED_BONE[1]
    is_dark = bool(inside[int(TOP_SHARE * (len(inside) - 1))] < INVERTED_TOP)
    return has_bone and is_dark and _explained(-1000 - inside[::-1], 0.0) >= ENOUGH


def _stretched(values: Values, own: float) -> HUFinding:
    """Judge whether a slope has moved air or soft tissue away from where they belong.

    Args:
        values: sorted.
        own: share of them that are air or soft tissue as they are.
    """
    below = _share(values, -np.inf, BELOW_AIR)
    for factor in SHRUNK if _air_share(values) < LEAST_AIR else ():
        # A lung in disease may lie where air would, but spreads further down.
        larger = values / factor
        air, thinner = _air_share(larger), _share(larger, -np.inf, -1000 - NEAR_AIR)
        is_air = air > LEAST_SHRUNK_AIR and thinner < THINNER * air
        if is_air and _explained(larger, 0.0) >= max(ENOUGH, own + STRETCHED_BY):
            return _implausible(
                f"air lies near {-1000 * factor:.0f}, as in HU × {factor:.2g}; pass `hu_scale` {1 / factor:g} if so"
            )
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


def _implausible(detail: str, remedy: str = "") -> HUFinding:
    return HUFinding(Verdict.IMPLAUSIBLE, detail, remedy)


def _sample(hu: VoxelsHU, padding: PaddingMask | None) -> Values:
    step = max(1, round((hu.size / SAMPLES) ** 0.5))
    thinned = hu[::step, ::step].astype(np.float64)
    kept = np.isfinite(thinned)
    if padding is not None:
        kept &= ~padding[::step, ::step]
    return thinned[kept]


def _air_share(values: Values, shift: float = 0.0) -> float:
    return _share(values, shift - 1000 - NEAR_AIR, shift - 1000 + NEAR_AIR)


def _explained(values: Values, shift: float) -> float:
    """Share of sorted values that are air or soft tissue if HU are shifted by so much."""
    return _air_share(values, shift) + _share(values, shift + SOFT[0], shift + SOFT[1])


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
