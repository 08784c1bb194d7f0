"""Hounsfield units: the HU range of a network, and display and metric windows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

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
        if not self.width > 0:
            raise DomainError(f"a window needs a width above 0 HU, got {self.width:g}")

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
