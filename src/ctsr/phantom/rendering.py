"""Images of the phantom: solids painted on axial planes, then sharpened, made noisy and stored as a scanner does.

All lengths are in mm. A signed distance is negative inside a solid. Painting is anti-aliased: a pixel gets the share of
a value that its area has in the solid.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from pydicom.uid import UID, ExplicitVRLittleEndian
from scipy import fft

from ctsr.volume import Vector

Image: TypeAlias = npt.NDArray[np.floating]
"""One value per pixel, float32 wherever time matters; axes (row, column)."""

Region: TypeAlias = tuple[slice, slice]
"""Rows and columns of a rectangular part of an image."""

Segments: TypeAlias = npt.NDArray[np.float64]
"""Round cones, one per row: start x y z radius, end x y z radius, all mm; shape (n, 8)."""

FAR = 1e3
"""The distance given where nothing is near, mm."""

_TUBE_MARGIN = 2.5
"""mm around a tube in which its wall lies."""

_MARGIN = 8.0
"""mm added around a solid's region: the body's deformation moves points by less."""


@dataclass(frozen=True)
class AxialPlane:
    """One axial plane: the positions of its pixel centres in the coordinates of the reference body.

    `x` and `y` are the coordinates of every pixel after the body's deformation. `origin` and `step` are the undeformed
    grid, from which the pixels that a solid can touch are found without visiting all of them.
    """

    x: Image
    y: Image
    z: float
    origin: tuple[float, float]
    step: tuple[float, float]

    @property
    def pixel(self) -> float:
        """The width of a pixel in the body's frame, mm."""
        return (self.step[0] + self.step[1]) / 2

    def box_region(self, x: tuple[float, float], y: tuple[float, float]) -> Region | None:
        """The pixels that a box, ``x[0]`` to ``x[1]`` by ``y[0]`` to ``y[1]`` mm, may touch; None if there are none."""
        rows, columns = self.x.shape
        left = max(0, math.floor((x[0] - _MARGIN - self.origin[0]) / self.step[0]))
        right = min(columns, math.ceil((x[1] + _MARGIN - self.origin[0]) / self.step[0]) + 1)
        top = max(0, math.floor((y[0] - _MARGIN - self.origin[1]) / self.step[1]))
        bottom = min(rows, math.ceil((y[1] + _MARGIN - self.origin[1]) / self.step[1]) + 1)
        return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


class Solid(Protocol):
    """A shape that has a signed distance function."""

    def region(self, plane: AxialPlane, grow: float = 0.0) -> Region | None:
        """The pixels of `plane` that the solid, grown by `grow` mm, may touch; None if there are none."""
        ...

    def distance(self, x: Image, y: Image, z: float) -> Image:
        """Signed distance to its surface in mm, negative inside."""
        ...


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid rotated about the z axis by `turn` degrees, from x towards y."""

    center: Vector
    radii: Vector
    turn: float = 0.0

    def region(self, plane: AxialPlane, grow: float = 0.0) -> Region | None:
        """The pixels of `plane` that the solid, grown by `grow` mm, may touch; None if there are none."""
        if abs(plane.z - self.center[2]) > self.radii[2] + grow + 1:
            return None
        cos, sin = math.cos(math.radians(self.turn)), math.sin(math.radians(self.turn))
        half_x = math.hypot(self.radii[0] * cos, self.radii[1] * sin) + grow
        half_y = math.hypot(self.radii[0] * sin, self.radii[1] * cos) + grow
        cx, cy, _ = self.center
        return plane.box_region((cx - half_x, cx + half_x), (cy - half_y, cy + half_y))

    def distance(self, x: Image, y: Image, z: float) -> Image:
        """Signed distance in mm, exact to first order at the surface (k₀(k₀−1)/k₁ of Quilez' distance functions)."""
        cos, sin = math.cos(math.radians(self.turn)), math.sin(math.radians(self.turn))
        dx, dy = x - np.float32(self.center[0]), y - np.float32(self.center[1])
        rx, ry, rz = self.radii
        a = (dx * np.float32(cos) + dy * np.float32(sin)) * np.float32(1 / rx)
        b = (dy * np.float32(cos) - dx * np.float32(sin)) * np.float32(1 / ry)
        c = (z - self.center[2]) / rz
        k0 = np.sqrt(a * a + b * b + np.float32(c * c))
        k1 = np.sqrt((a / np.float32(rx)) ** 2 + (b / np.float32(ry)) ** 2 + np.float32((c / rz) ** 2 + 1e-9))
        return k0 * (k0 - 1) / k1


def tube(*stations: tuple[float, float, float, float]) -> Segments:
    """A Catmull-Rom curve through `stations` (x, y, z, radius; mm), divided into short round cones."""
    knots = np.array(stations)
    before, after = 2 * knots[0] - knots[1], 2 * knots[-1] - knots[-2]
    padded = np.vstack([before, knots, after])
    pieces = [knots[:1]]
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        count = max(2, math.ceil(float(np.linalg.norm((p2 - p1)[:3])) / 5))
        t = np.linspace(0, 1, count + 1)[1:, None]
        pieces.append(
            0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * (p1 - p2) + p3 - p0) * t**3)
        )
    path = np.vstack(pieces)
    return np.hstack([path[:-1], path[1:]])


def tube_distance(plane: AxialPlane, segments: Segments) -> tuple[Region, Image] | None:
    """Signed distance in mm to the union of round cones, and the region of `plane` it is given for.

    The distance is `FAR` where no cone is near. None if the plane meets no cone.
    """
    reach = np.maximum(segments[:, 3], segments[:, 7]) + _TUBE_MARGIN
    start, end = segments[:, :3], segments[:, 4:7]
    low, high = np.minimum(start, end) - reach[:, None], np.maximum(start, end) + reach[:, None]
    near = (low[:, 2] <= plane.z) & (plane.z <= high[:, 2])
    if not near.any():
        return None
    (left, front, _), (right, back, _) = low[near].min(axis=0).tolist(), high[near].max(axis=0).tolist()
    whole = plane.box_region((left, right), (front, back))
    if whole is None:
        return None
    nearest = np.full(plane.x.shape, FAR, dtype=np.float32)
    for segment, (left, front, _), (right, back, _) in zip(
        segments[near].tolist(), low[near].tolist(), high[near].tolist(), strict=True
    ):
        region = plane.box_region((left, right), (front, back))
        if region is not None:
            distance = _cone_distance(plane.x[region], plane.y[region], plane.z, segment)
            np.minimum(nearest[region], distance, out=nearest[region])
    return whole, nearest[whole]


def _cone_distance(x: Image, y: Image, z: float, segment: list[float]) -> Image:
    """Distance in mm to one round cone: the distance to its axis minus the radius at the nearest point."""
    ax, ay, az, radius, bx, by, bz, end_radius = segment
    ux, uy, uz = bx - ax, by - ay, bz - az
    dx, dy, dz = x - np.float32(ax), y - np.float32(ay), z - az
    inverse = 1 / (ux * ux + uy * uy + uz * uz + 1e-9)
    along = dx * np.float32(ux * inverse) + dy * np.float32(uy * inverse) + np.float32(dz * uz * inverse)
    along = np.minimum(np.maximum(along, 0), 1)
    ex, ey, ez = dx - along * np.float32(ux), dy - along * np.float32(uy), np.float32(dz) - along * np.float32(uz)
    return np.sqrt(ex * ex + ey * ey + ez * ez) - (np.float32(radius) + along * np.float32(end_radius - radius))


def coverage(distance: Image, pixel: float) -> Image:
    """Fraction of each pixel inside a solid, estimated from its centre's distance by a ramp one pixel wide."""
    return np.minimum(np.maximum(np.float32(0.5) - distance * np.float32(1 / pixel), 0), 1)


def smooth_min(a: Image, b: Image, blend: float) -> Image:
    """The union of two distances, its crease filled over `blend` mm (Quilez' quadratic smooth minimum)."""
    overlap = np.maximum(np.float32(blend) - np.abs(a - b), 0)
    return np.minimum(a, b) - overlap * overlap * np.float32(0.25 / blend)


def smooth_max(a: Image, b: Image, blend: float) -> Image:
    """The intersection of two distances, its edge rounded over `blend` mm."""
    return -smooth_min(-a, -b, blend)


def smooth_step(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high`, a cubic between."""
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True, eq=False)
class Canvas:
    """The HU image of one plane; later solids are painted over earlier ones."""

    plane: AxialPlane
    hu: Image

    def paint(self, distance: Image, hu: float | Image, region: Region | None = None) -> None:
        """Paint `hu` wherever `distance`, given over `region` (default: the whole plane), is negative."""
        part = self.hu if region is None else self.hu[region]
        part += coverage(distance, self.plane.pixel) * (hu - part)

    def paint_tube(self, segments: Segments, hu: float, *, grow: float = 0.0, inside: Image | None = None) -> None:
        """Paint a union of round cones, grown by `grow` mm (at most 2) and clipped like a solid."""
        touched = tube_distance(self.plane, segments)
        if touched is None:
            return
        region, distance = touched
        distance = distance - np.float32(grow)
        self.paint(distance if inside is None else np.maximum(distance, inside[region]), hu, region)

    def paint_solid(self, solid: Solid, hu: float, *, grow: float = 0.0, inside: Image | None = None) -> None:
        """Paint a solid grown by `grow` mm, clipped where the signed distance `inside` is positive."""
        region = solid.region(self.plane, grow)
        if region is None:
            return
        distance = solid.distance(self.plane.x[region], self.plane.y[region], self.plane.z) - np.float32(grow)
        if inside is not None:
            distance = np.maximum(distance, inside[region])
        self.paint(distance, hu, region)


Values: TypeAlias = npt.NDArray[np.floating]

_WAVES = 24


@dataclass(frozen=True, eq=False)
class RandomField:
    """A sum of plane waves with random directions and phases: nearly Gaussian, mean 0, standard deviation 1."""

    waves: npt.NDArray[np.float32]
    """Wave vectors in radians per mm; shape (n, 3)."""
    phases: npt.NDArray[np.float32]

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        wavelengths: tuple[float, float],
        *,
        stretch: tuple[float, float, float] = (1, 1, 1),
        waves: int = _WAVES,
    ) -> "RandomField":
        """Draw waves whose lengths span `wavelengths` (mm), multiplied by `stretch` along x, y and z."""
        directions = rng.normal(size=(waves, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = np.geomspace(*wavelengths, waves)[:, None]
        vectors = 2 * np.pi * directions / lengths / np.array(stretch)
        return cls(vectors.astype(np.float32), rng.uniform(0, 2 * np.pi, waves).astype(np.float32))

    def __call__(self, x: Values, y: Values, z: float) -> Values:
        """Values of the field at points of one plane; same shape as `x`."""
        total = np.zeros_like(x)
        for (kx, ky, kz), phase in zip(self.waves, self.phases, strict=True):
            total += np.sin(x * kx + (y * ky + np.float32(kz * np.float32(z) + phase)))
        return total * np.float32(np.sqrt(2 / len(self.phases)))

    def within(self, plane: AxialPlane, where: npt.NDArray[np.bool_]) -> Values:
        """The values at the selected pixels of a plane, as a 1-D array: evaluating whole planes would be slow."""
        return self(plane.x[where], plane.y[where], plane.z)


def membranes(field: Values, thickness: float) -> Values:
    """Thin membranes, values in [0, 1], along the zero crossings of a field: septa in fat, trabeculae in bone.

    `thickness` is in standard deviations of the field; they fill about ``0.7·thickness`` of the volume.
    """
    return np.exp(-((field * np.float32(1 / thickness)) ** 2))


@dataclass(frozen=True, eq=False)
class BodyTextures:
    """The textures of one body's tissues; wavelengths in mm."""

    septa: RandomField
    septa_gaps: RandomField
    marbling: RandomField
    soft: RandomField
    lung: RandomField
    fissure: RandomField
    gland: RandomField

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "BodyTextures":
        """Draw the textures of one body."""
        return cls(
            septa=RandomField.draw(rng, (11, 34), stretch=(1.3, 1, 1.6), waves=16),
            septa_gaps=RandomField.draw(rng, (20, 60), waves=8),
            marbling=RandomField.draw(rng, (7, 24), stretch=(1.2, 0.7, 4), waves=16),
            soft=RandomField.draw(rng, (4, 14), waves=14),
            lung=RandomField.draw(rng, (2.5, 11), waves=18),
            fissure=RandomField.draw(rng, (150, 320), waves=8),
            gland=RandomField.draw(rng, (7, 22), waves=12),
        )


Stored: TypeAlias = npt.NDArray[np.integer]
"""Stored pixel values, int16 or uint16; axes (row, column)."""

_FLARE_MM = 55.0


@dataclass(frozen=True)
class SimulatedKernel:
    """A reconstruction kernel: its point spread, edge enhancement and noise."""

    name: str
    blur: float
    """Standard deviation of the Gaussian part of the point spread function, mm."""
    boost: float
    """Relative enhancement of frequencies around 0.35 per mm; 0 for smooth kernels."""
    grain: float
    """Cut-off of the noise power in cycles per mm."""
    noise: float
    """Noise standard deviation relative to a standard kernel."""

    def transfer(self, frequency: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Modulation transfer at frequencies in cycles per mm; exactly 1 at 0, so mean HU are preserved."""
        lifted = np.exp(-(((frequency - 0.35) / 0.16) ** 2)) * (1 - np.exp(-((frequency / 0.1) ** 2)))
        return np.exp(-2 * (np.pi * self.blur * frequency) ** 2) * (1 + self.boost * lifted)

    @property
    def reach(self) -> float:
        """Distance from an edge within which blur or ringing is visible, mm."""
        return 2.6 * self.blur + 6 * self.boost


KERNELS = {
    kernel.name: kernel
    for kernel in (
        SimulatedKernel("B30f", 0.50, 0.00, 0.36, 0.9),
        SimulatedKernel("B40s", 0.45, 0.00, 0.42, 1.0),
        SimulatedKernel("STANDARD", 0.46, 0.05, 0.42, 1.0),
        SimulatedKernel("SOFT", 0.55, 0.00, 0.34, 0.8),
        SimulatedKernel("FC18", 0.48, 0.04, 0.40, 1.0),
        SimulatedKernel("B", 0.52, 0.00, 0.38, 0.9),
        SimulatedKernel("LUNG", 0.36, 0.28, 0.60, 2.0),
    )
}


@dataclass(frozen=True)
class Scanner:
    """A scanner model: header values, noise and pixel encoding."""

    model: str
    kvp: int
    tube_current: int
    """mA."""
    noise: float
    """Standard deviation in HU in the middle of a body at a slice thickness of 2.5 mm with a standard kernel."""
    signed: bool
    rescale_intercept: int
    padding: int
    """Stored value outside the reconstruction circle."""
    padding_tag: bool = True
    """Whether PixelPaddingValue is written."""
    bits_stored: int = 16
    transfer_syntax: UID = ExplicitVRLittleEndian

    @property
    def stored_range(self) -> tuple[int, int]:
        """Smallest and largest stored value."""
        if self.signed:
            return -(2 ** (self.bits_stored - 1)), 2 ** (self.bits_stored - 1) - 1
        return 0, 2**self.bits_stored - 1

    def to_stored(self, hu: Image) -> Stored:
        """Round HU to stored values, clipped to `stored_range`."""
        stored = np.rint(hu - np.float32(self.rescale_intercept)).clip(*self.stored_range)
        return stored.astype(np.int16 if self.signed else np.uint16)


def acquire(
    hu: Image, scanner: Scanner, kernel: SimulatedKernel, *, spacing: float, thickness: float, rng: np.random.Generator
) -> Image:
    """Simulate the acquisition of an ideal image in HU: apply the kernel's transfer function and add noise.

    The noise grows with the attenuation along the rays through a point, approximated by a wide blur of the image,
    and with 1/√thickness, as quantum noise does.
    """
    frequency = _frequencies(hu.shape, spacing)
    spectrum = _spectrum(hu + np.float32(1000))
    sharp = _image(spectrum * kernel.transfer(frequency), hu.shape) - np.float32(1000)
    passed = _image(spectrum * np.exp(-2 * (np.pi * _FLARE_MM * frequency) ** 2), hu.shape).clip(0, 1300) / 1000
    sigma = scanner.noise * kernel.noise * (2.5 / thickness) ** 0.5
    return sharp + noise_field(hu.shape, kernel, spacing, rng) * (sigma * (0.2 + passed))


def noise_field(shape: tuple[int, ...], kernel: SimulatedKernel, spacing: float, rng: np.random.Generator) -> Image:
    """Noise of standard deviation 1 with the spectrum of filtered back projection: a ramp with a cut-off."""
    amplitude, norm = _noise_amplitude((shape[0], shape[1]), kernel, spacing)
    white = rng.standard_normal(shape, dtype=np.float32)
    return _image(_spectrum(white) * amplitude, shape) / np.float32(norm)


@lru_cache(maxsize=4)
def _noise_amplitude(shape: tuple[int, int], kernel: SimulatedKernel, spacing: float) -> tuple[Image, float]:
    """Square root of the noise power at every frequency, and the standard deviation of white noise filtered with it.

    The power is f·exp(−2(f/cut-off)²), somewhat larger for structures along y, because lateral rays pass through more
    tissue.
    """
    frequency = _frequencies(shape, spacing)
    across = fft.rfftfreq(shape[1], spacing)[None, :] / (frequency + 1e-9)
    power = frequency * np.exp(-2 * (frequency / kernel.grain) ** 2) * (0.75 + 0.5 * across**2)
    weight = np.full(power.shape, 2.0)
    weight[:, 0] = 1
    if shape[1] % 2 == 0:
        weight[:, -1] = 1
    return np.sqrt(power).astype(np.float32), float(np.sqrt((weight * power).sum() / (shape[0] * shape[1])))


def _spectrum(image: Image) -> npt.NDArray[np.complexfloating]:
    """The real 2-D Fourier transform; scipy's, because numpy's leaves single precision."""
    return np.asarray(fft.rfft2(image))


def _image(spectrum: npt.NDArray[np.complexfloating], shape: tuple[int, ...]) -> Image:
    """The image of a given shape from its spectrum."""
    return np.asarray(fft.irfft2(spectrum.astype(np.complex64), s=shape))


def _frequencies(shape: tuple[int, ...], spacing: float) -> npt.NDArray[np.float64]:
    """Cycles per mm of every coefficient of a real 2-D Fourier transform."""
    return np.hypot(fft.fftfreq(shape[0], spacing)[:, None], fft.rfftfreq(shape[1], spacing)[None, :])


def outside_circle(matrix: int) -> npt.NDArray[np.bool_]:
    """True outside the circle that touches the four sides of a square image."""
    offset = np.arange(matrix) - (matrix - 1) / 2
    return np.hypot(offset[:, None], offset[None, :]) > matrix / 2


def store(hu: Image, scanner: Scanner) -> Stored:
    """HU → stored values, padding outside the circle."""
    stored = scanner.to_stored(hu)
    stored[outside_circle(hu.shape[0])] = scanner.padding
    return stored
