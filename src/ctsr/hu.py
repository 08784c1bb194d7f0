"""Hounsfield units: ranges and windows, which of them are which tissue, and where the body is.

The only definitions of any of these. NumPy and SciPy only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ctsr.errors import DomainError, UsageError

FloatArray: TypeAlias = npt.NDArray[np.floating]

AIR = -1000.0
"""HU of air; what padding outside the reconstruction circle is read as."""


SLOPES = (1e-3, 1e3)
"""Magnitude of a plausible RescaleSlope, HU a stored unit; 32 is the largest met in clinical CT."""
LARGEST_INTERCEPT = 1e5
"""Magnitude of a plausible RescaleIntercept, HU."""


def rescale_problem(slope: float, intercept: float) -> str:
    """Say why a rescale cannot lead to HU; empty where it can."""
    if SLOPES[0] <= abs(slope) <= SLOPES[1] and abs(intercept) <= LARGEST_INTERCEPT:
        return ""
    return f"its rescale (slope {slope:g}, intercept {intercept:g}) cannot give HU"


@dataclass(frozen=True)
class HUCorrection:
    """What a user knows better than a header: ``HU = scale · value + offset`` of the values as they are read."""

    scale: float = 1.0
    offset: float = 0.0
    """HU."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and 1e-4 <= abs(self.scale) <= 1e5):
            raise DomainError(f"`hu_scale` must lie between 0.0001 and 100000, got {self.scale:g}")
        if not (math.isfinite(self.offset) and abs(self.offset) <= LARGEST_INTERCEPT):
            raise DomainError(f"`hu_offset` must lie between -100000 and 100000, got {self.offset:g}")

    def __bool__(self) -> bool:
        """False where it changes nothing."""
        return (self.scale, self.offset) != (1.0, 0.0)

    @property
    def text(self) -> str:
        """As files of results record it."""
        return f"HU x {float(self.scale)!r} + {float(self.offset)!r}"

    def rescale(self, slope: float | None, intercept: float | None) -> tuple[float, float]:
        """Make slope and intercept that include the correction; those of stored values where a header has none."""
        given = (1.0, 0.0) if slope is None or intercept is None else (slope, intercept)
        return self.scale * given[0], self.scale * given[1] + self.offset


AS_READ = HUCorrection()


@dataclass(frozen=True, kw_only=True)
class HUOptions:
    """What a user knows better than headers, among the options of whatever reads series."""

    assume_hu: bool = False
    """Take stored values for HU where a series has no rescale slope and intercept."""
    hu_offset: float = 0.0
    """HU to add to what the headers make of stored values, as -1024 for an intercept that was lost."""
    hu_scale: float = 1.0
    """Factor before `hu_offset`, as 1000 for values that were scaled to -1 … 1."""

    @property
    def hu_correction(self) -> HUCorrection:
        """Correction of all values that are read."""
        return HUCorrection(self.hu_scale, self.hu_offset)


@dataclass(frozen=True)
class HURange:
    """A closed range of Hounsfield units and its linear map to the network's [-1, 1].

    Values outside are clipped on the way in; nothing is recovered on the way out.
    """

    low: float = -1000.0
    high: float = 2000.0

    def __post_init__(self) -> None:
        if not (self.low < self.high and math.isfinite(self.low) and math.isfinite(self.high)):
            raise DomainError(f"an HU range needs low < high, both finite, got {self.low:g} … {self.high:g}")

    @property
    def width(self) -> float:
        """HU from end to end."""
        return self.high - self.low

    @property
    def hu_per_unit(self) -> float:
        """HU that one step of 1 on the [-1, 1] scale stands for; 1500 for the default range."""
        return self.width / 2

    def to_unit(self, hu: npt.NDArray[np.number]) -> npt.NDArray[np.float32]:
        """HU, any shape → the same shape in [-1, 1], float32."""
        clipped = np.clip(hu, self.low, self.high).astype(np.float32)
        return (clipped - np.float32(self.low)) * np.float32(1 / self.hu_per_unit) - np.float32(1)

    def to_hu(self, unit: FloatArray) -> FloatArray:
        """[-1, 1], any shape → the same shape in HU."""
        return (unit + 1) * self.hu_per_unit + self.low


DEFAULT_RANGE = HURange()
"""The range models are trained on unless told otherwise: 1 unit is 1500 HU."""


@dataclass(frozen=True)
class Window:
    """A display and metric window: HU from ``center - width/2`` to ``center + width/2`` become [0, 1]."""

    center: float
    width: float

    def __post_init__(self) -> None:
        if not (0 < self.width < math.inf and math.isfinite(self.center)):
            raise DomainError(
                f"a window needs a width above 0 HU and a centre, both finite, got {self.width:g} and {self.center:g}"
            )

    @classmethod
    def from_range(cls, low: float, high: float) -> "Window":
        """The window that shows exactly `low` … `high` HU."""
        span = HURange(low, high)
        return cls(center=(span.low + span.high) / 2, width=span.width)

    @property
    def low(self) -> float:
        """HU shown as 0."""
        return self.center - self.width / 2

    @property
    def high(self) -> float:
        """HU shown as 1."""
        return self.center + self.width / 2

    def to_01(self, hu: FloatArray) -> FloatArray:
        """HU, any shape → the same shape in [0, 1], values outside the window clipped."""
        return np.clip((hu - self.low) / self.width, 0, 1)


PRESETS = {
    "soft_tissue": Window(40, 400),
    "lung": Window(-600, 1500),
    "bone": Window(500, 2000),
    "brain": Window(40, 80),
    "liver": Window(60, 150),
    "abdomen": Window(60, 400),
    "global": Window(500, 3000),
    "default": Window(40, 400),
}
"""Window presets by name."""
WHOLE_RANGE = "global"
"""In `choose_windows`, the whole `hu_clip`, not the preset of this name."""


def preset(name: str) -> Window:
    """The window called `name`.

    Raises:
        DomainError: no preset has that name; the message lists those that exist.
    """
    if name not in PRESETS:
        raise DomainError(f"no window preset is called {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


@dataclass(frozen=True)
class MetricWindow:
    """The window of metrics, and its tag in names of files and folders."""

    window: Window
    tag: str
    """`globalHU_-1000_2000`, `preset-soft_tissue` or `wlww_40_400`."""

    @property
    def text(self) -> str:
        """Tag, centre and width, as shown to readers."""
        return f"{self.tag} (C {self.window.center:g}, W {self.window.width:g} HU)"


def choose_window(
    hu_clip: HURange, name: str | None = None, center: float | None = None, width: float | None = None
) -> MetricWindow:
    """Choose the window of metrics: a preset, a centre and width in HU, or else the whole range `hu_clip`.

    An explicit centre or width overrides the preset's; where both equal the preset's, the tag is the preset's.

    Raises:
        DomainError: no preset is called `name`; the message lists those that exist.
        UsageError: only one of centre and width, and no preset to take the other from.
    """
    if name is None and center is None and width is None:
        return MetricWindow(Window.from_range(hu_clip.low, hu_clip.high), f"globalHU_{hu_clip.low:g}_{hu_clip.high:g}")
    named = preset(name) if name is not None else None
    center = named.center if center is None and named else center
    width = named.width if width is None and named else width
    if center is None or width is None:
        raise UsageError("`window_center` and `window_width` go together; give both, or a preset as well")
    chosen = Window(center, width)
    return MetricWindow(chosen, f"preset-{name}" if chosen == named else f"wlww_{center:g}_{width:g}")


def choose_windows(
    hu_clip: HURange,
    names: Sequence[str] = (),
    name: str | None = None,
    center: float | None = None,
    width: float | None = None,
) -> tuple[MetricWindow, ...]:
    """Choose the windows of an evaluation: that of preset, centre and width, then those of `names`.

    Args:
        hu_clip: the range that `global` stands for.
        names: presets, `global` among them. With `names` alone, the first of them is the first window.
        name: see `choose_window`.
        center: see `choose_window`.
        width: see `choose_window`.

    Raises:
        DomainError, UsageError: as `choose_window`.
    """
    single = (name, center, width) != (None, None, None)
    first = [choose_window(hu_clip, name, center, width)] if single or not names else []
    several = [choose_window(hu_clip, None if preset_name == WHOLE_RANGE else preset_name) for preset_name in names]
    return tuple({window.tag: window for window in (*first, *several)}.values())


SMOOTHING = 1.0
"""Pixels, standard deviation. Thresholds on the noisy reference itself would choose pixels by their noise, and so find
a bias in the most honest image."""
RIM = 1
"""Pixels taken off at every border: there, neither tissue is alone."""
FEWEST_PIXELS = 25
"""Fewest pixels of a tissue for a mean over it."""
CORE_SMOOTHING = 2.0
"""Pixels, standard deviation: what tells tissue from noise of 60 HU."""
SOFT_TISSUE = (-150.0, 200.0)
"""HU of fat, muscle, organs and blood with contrast agent together."""
AERATED_LUNG = (-980.0, -600.0)
"""HU of lung that a lesion can lie in."""
MASK_SMOOTHING = 2.0
"""Pixels, standard deviation, of `tissue_mask`."""
MASK_RIM = 2
"""Pixels by which `tissue_mask` shrinks: the rim of a tissue is partial volume."""

BLOCK = 8
"""Pixels along each side of a block of the body map."""
TABLE_PIXELS = 3
"""Half the thickness of what is taken for a table or a tube rather than for a part of the body."""
PART = 0.2
"""Fraction of the largest piece: smaller pieces are not part of the body."""
TISSUE_HU = -500.0
"""Half-way between air and water: a block above it holds mostly tissue."""


@dataclass(frozen=True)
class Tissue:
    """HU from `low` (included) to `high` (excluded)."""

    name: str
    low: float
    high: float

    @property
    def text(self) -> str:
        """For people: name and range."""
        if math.isinf(self.low):
            return f"{self.name}, below {self.high:g} HU"
        if math.isinf(self.high):
            return f"{self.name}, from {self.low:g} HU"
        return f"{self.name}, {self.low:g} … {self.high:g} HU"


TISSUES = {
    tissue.name: tissue
    for tissue in (
        Tissue("air", -math.inf, -950),
        Tissue("lung", -950, -500),
        Tissue("fat", -150, -30),
        Tissue("soft", -10, 150),
        Tissue("bone", 250, 2000),
        Tissue("metal", 2000, math.inf),
    )
}
"""By name. Between them lie mixtures, which belong to none. Soft tissue includes enhanced blood and organs."""
TISSUE_CORES = {
    tissue.name: tissue
    for tissue in (
        Tissue("lung", -950, -700),
        Tissue("fat", -140, -60),
        Tissue("soft", 20, 120),
        Tissue("bone", 250, 1500),
    )
}
"""By name, with narrower limits: where a bias of a few tenths of HU is to be measured, mixtures must not take part."""


def tissue_masks(reference_hu: npt.NDArray[np.floating]) -> dict[str, npt.NDArray[np.bool_]]:
    """Where each tissue is: thresholds on the smoothed reference, without the rim.

    Args:
        reference_hu: (rows, columns), HU.

    Returns:
        By name, (rows, columns) each; they do not overlap.
    """
    smooth = cast("npt.NDArray[np.floating]", ndimage.gaussian_filter(reference_hu, SMOOTHING, mode="nearest"))
    return {tissue.name: _without_rim((smooth >= tissue.low) & (smooth < tissue.high)) for tissue in TISSUES.values()}


def core_masks(reference_hu: npt.NDArray[np.floating]) -> dict[str, npt.NDArray[np.bool_]]:
    """The inside of each tissue of `TISSUE_CORES`, where its mean HU can be compared between two images.

    Args:
        reference_hu: (rows, columns), HU.

    Returns:
        By name, (rows, columns) each.
    """
    smooth = ndimage.gaussian_filter(reference_hu.astype(np.float64), CORE_SMOOTHING)
    inside = {core.name: (smooth >= core.low) & (smooth <= core.high) for core in TISSUE_CORES.values()}
    return {name: np.asarray(ndimage.binary_erosion(mask), dtype=bool) for name, mask in inside.items()}


def tissue_mask(hu: npt.NDArray[np.floating], low: float, high: float) -> npt.NDArray[np.bool_]:
    """Where a smoothed slice lies in ``low … high`` HU, without the rim of that tissue.

    Args:
        hu: (rows, columns).
        low: HU, excluded.
        high: HU, excluded.

    Returns:
        (rows, columns).
    """
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), MASK_SMOOTHING)
    inside = (smooth > low) & (smooth < high)
    return np.asarray(ndimage.binary_erosion(inside, iterations=MASK_RIM), dtype=bool)


def body_blocks(hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
    """The body in blocks of 8×8 pixels: tissue, with the lungs it encloses, the largest piece only.

    Args:
        hu: (rows, columns), HU; values below air count as air.

    Returns:
        (⌈rows/8⌉, ⌈columns/8⌉), True in the body; all True where nothing is tissue, so that there is always
        a place to draw from.
    """
    tissue = tissue_blocks(hu)
    # Opening parts the body from the table it lies on, and drops specks.
    opened = ndimage.binary_opening(tissue, iterations=1)
    labels, count = cast("tuple[npt.NDArray[np.int32], int]", ndimage.label(opened))
    if count == 0:
        return tissue if tissue.any() else np.ones_like(tissue)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax(), dtype=bool)


def body_mask(hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
    """The body pixel by pixel: tissue without table and specks, and whatever it encloses.

    Legs or an arm beside the trunk belong to it; a lung that the image's edge cuts open is not enclosed.

    Args:
        hu: (rows, columns), HU; values below air count as air.

    Returns:
        (rows, columns); all False where nothing is tissue.
    """
    tissue = ndimage.binary_opening(hu > TISSUE_HU, iterations=TABLE_PIXELS)
    labels, count = cast("tuple[npt.NDArray[np.int32], int]", ndimage.label(tissue))
    if count == 0:
        return np.zeros(hu.shape, dtype=bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    large = np.flatnonzero(sizes >= PART * sizes.max())
    return np.asarray(ndimage.binary_fill_holes(np.isin(labels, large)), dtype=bool)


def tissue_blocks(hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
    """Blocks of 8×8 pixels that hold mostly tissue or are enclosed by such; arms, specks and the table among them.

    Args:
        hu: (rows, columns), HU; values below air count as air.

    Returns:
        (⌈rows/8⌉, ⌈columns/8⌉).
    """
    rows, columns = hu.shape
    padded = np.pad(np.maximum(hu, AIR), ((0, -rows % BLOCK), (0, -columns % BLOCK)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // BLOCK, BLOCK, -1, BLOCK).mean(axis=(1, 3))
    return np.asarray(ndimage.binary_fill_holes(blocks > TISSUE_HU), dtype=bool)


def _without_rim(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Eroded by a square; the image's own border does not erode."""
    size = 2 * RIM + 1
    return np.asarray(ndimage.minimum_filter(mask, size, mode="nearest"), dtype=bool)
