"""Simulated scanners: how a kernel changes sharpness and noise, and how HU are stored."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from pydicom.uid import UID, ExplicitVRLittleEndian
from scipy import fft

from ctsr.phantom.geometry import Image

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
