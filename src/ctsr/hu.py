"""Hounsfield units: the range a network sees, and the windows a reader looks through."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ctsr.errors import DomainError

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
class HURange:
    """A closed range of Hounsfield units and its linear map to the network's [-1, 1].

    Values outside are clipped on the way in; nothing is recovered on the way out.
    """

    low: float = -1000.0
    high: float = 2000.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise DomainError(f"an HU range needs low < high, got {self.low:g} … {self.high:g}")

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


PRESETS = MappingProxyType(
    {
        "soft_tissue": Window(40, 400),
        "lung": Window(-600, 1500),
        "bone": Window(500, 2000),
        "brain": Window(40, 80),
        "liver": Window(60, 150),
        "abdomen": Window(60, 400),
        "global": Window(500, 3000),
        "default": Window(40, 400),
    }
)
"""The windows that have a name."""


def preset(name: str) -> Window:
    """The window called `name`.

    Raises:
        DomainError: no preset has that name; the message lists those that exist.
    """
    if name not in PRESETS:
        raise DomainError(f"no window preset is called {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
