"""Shapes whose line integrals have a closed form: an object that no raster has blurred."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ctsr.projection.fan_beam import Values


class Shape(Protocol):
    """Something uniform that adds its contrast to what it lies in; air is −1000 HU, so water on air is +1000."""

    @property
    def contrast_hu(self) -> float:
        """HU that the shape adds."""
        ...

    @property
    def center_mm(self) -> tuple[float, float]:
        """Its middle: y and x."""
        ...

    @property
    def radius_mm(self) -> float:
        """Of the circle about its middle that holds it."""
        ...

    def chord_mm(self, cosine: Values, sine: Values, s: Values) -> Values:
        """Length of the rays ``x·cos θ + y·sin θ = s`` within the shape, mm."""
        ...

    def holds(self, y: Values, x: Values) -> npt.NDArray[np.bool_]:
        """Whether points lie inside."""
        ...


@dataclass(frozen=True)
class Ellipse:
    """A uniform ellipse, or a disc."""

    contrast_hu: float
    center_mm: tuple[float, float]
    """y and x."""
    half_axes_mm: tuple[float, float]
    """Along the ellipse's own y and x."""
    angle: float = 0.0
    """By which it is turned from x towards y, radians."""

    @property
    def radius_mm(self) -> float:
        """Of the circle about its middle that holds it."""
        return max(self.half_axes_mm)

    def chord_mm(self, cosine: Values, sine: Values, s: Values) -> Values:
        """``2ab·√(r² − t²)/r²``, r the half-width of the shadow, t the ray's distance from the centre."""
        across, along = self.half_axes_mm
        own_cosine, own_sine = _turned(cosine, sine, self.angle)
        shadow = (along * own_cosine) ** 2 + (across * own_sine) ** 2
        offset = offset_mm(cosine, sine, s, self.center_mm)
        return 2 * along * across * np.sqrt(np.maximum(shadow - offset**2, 0)) / shadow

    def holds(self, y: Values, x: Values) -> npt.NDArray[np.bool_]:
        """Whether points lie inside."""
        along, across = _own_axes(y, x, self.center_mm, self.angle)
        return (along / self.half_axes_mm[1]) ** 2 + (across / self.half_axes_mm[0]) ** 2 <= 1


@dataclass(frozen=True)
class Rectangle:
    """A uniform rectangle: an edge, or a bar of a pattern."""

    contrast_hu: float
    center_mm: tuple[float, float]
    """y and x."""
    half_sides_mm: tuple[float, float]
    """Along the rectangle's own y and x."""
    angle: float = 0.0
    """By which it is turned from x towards y, radians."""

    @property
    def radius_mm(self) -> float:
        """Of the circle about its middle that holds it."""
        return float(np.hypot(*self.half_sides_mm))

    def chord_mm(self, cosine: Values, sine: Values, s: Values) -> Values:
        """The part of a ray that lies in both of the slabs that make the rectangle."""
        offset = offset_mm(cosine, sine, s, self.center_mm)
        own_cosine, own_sine = _turned(cosine, sine, self.angle)
        # A point of the ray, `t` mm from its foot, on the rectangle's own axes: (offset·cosine − t·sine,
        # offset·sine + t·cosine).
        first = _slab(offset * own_cosine, -own_sine, self.half_sides_mm[1])
        second = _slab(offset * own_sine, own_cosine, self.half_sides_mm[0])
        return np.maximum(np.minimum(first[1], second[1]) - np.maximum(first[0], second[0]), 0)

    def holds(self, y: Values, x: Values) -> npt.NDArray[np.bool_]:
        """Whether points lie inside."""
        along, across = _own_axes(y, x, self.center_mm, self.angle)
        return (np.abs(along) <= self.half_sides_mm[1]) & (np.abs(across) <= self.half_sides_mm[0])


def _turned(cosine: Values, sine: Values, angle: float) -> tuple[Values, Values]:
    """Cosine and sine of θ less an angle."""
    return cosine * np.cos(angle) + sine * np.sin(angle), sine * np.cos(angle) - cosine * np.sin(angle)


def offset_mm(cosine: Values, sine: Values, s: Values, center: tuple[float, float]) -> Values:
    """How far rays pass from a centre, mm."""
    return s - center[1] * cosine - center[0] * sine


def _own_axes(y: Values, x: Values, center: tuple[float, float], angle: float) -> tuple[Values, Values]:
    down, right = y - center[0], x - center[1]
    return right * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - right * np.sin(angle)


def _slab(start: Values, slope: Values, half: float) -> tuple[Values, Values]:
    """Between which `t` the line ``start + slope·t`` lies in ``−half … half``."""
    # A ray along the slab never leaves it, or never enters: so long a `t` that nothing of the field lies beyond.
    safe = np.where(np.abs(slope) < 1e-9, 1e-9, slope)
    ends = (-half - start) / safe, (half - start) / safe
    return np.minimum(*ends), np.maximum(*ends)
