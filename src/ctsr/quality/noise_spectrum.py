"""Noise power spectrum: how much of an image's noise lies at which spatial frequency.

Definitions after ICRU Report 87 (2012) and AAPM Task Group 233 (Samei et al., Med. Phys. 46:e735, 2019).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ctsr.errors import DomainError
from ctsr.hu import FloatArray

LEAST_HU = 0.01
"""Standard deviation below which there is no noise but that of rounding."""

PowerMap = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NoiseSpectrum:
    """The radial noise power spectrum of square regions."""

    frequencies_per_mm: tuple[float, ...]
    """Middles of the rings, from one step above 0 to the Nyquist frequency."""
    power_hu2_mm2: tuple[float, ...]
    """Mean of each ring, HU²·mm²."""
    std_hu: float
    """Standard deviation of the noise: the root of the integral of the two-dimensional spectrum."""
    peak_per_mm: float | None
    """The ring with the most power; None below `LEAST_HU`."""
    mean_per_mm: float | None
    """Mean frequency of the radial spectrum, weighted by its power (TG-233's average frequency); None as well."""
    regions: int
    """How many regions were averaged."""


def detrended(regions: FloatArray) -> npt.NDArray[np.float64]:
    """Regions without the second-degree polynomial that fits each best: shading and a slow change of tissue.

    Args:
        regions: (n, size, size), HU.
    """
    flat = regions.reshape(len(regions), -1).astype(np.float64)
    basis = _trend(regions.shape[-1])
    return (flat - (flat @ basis) @ basis.T).reshape(regions.shape)


def power_map(regions: FloatArray, pixel_mm: float) -> PowerMap:
    """The two-dimensional noise power spectrum, averaged over regions.

    ``NPS(u, v) = pixel² / size² · ⟨|DFT(region − trend)|²⟩``; its sum times ``1 / (size · pixel)²`` is the variance.

    Args:
        regions: (n, size, size), HU, n at least 1.
        pixel_mm: side of a pixel.

    Returns:
        (size, size), HU²·mm², frequencies in the order of `numpy.fft.fftfreq`.

    Raises:
        DomainError: no regions, or regions that are not square.
    """
    if regions.ndim != 3 or not len(regions) or regions.shape[1] != regions.shape[2]:
        raise DomainError(f"a noise power spectrum needs square regions (n, size, size), got {regions.shape}")
    size = regions.shape[1]
    return np.mean(np.abs(np.fft.fft2(detrended(regions))) ** 2, axis=0) * (pixel_mm / size) ** 2


def spectrum_of(maps: Sequence[PowerMap], pixel_mm: float, regions: int) -> NoiseSpectrum:
    """The radial spectrum of the mean of two-dimensional ones.

    Args:
        maps: of equal shape, at least one; from `power_map`.
        pixel_mm: side of a pixel.
        regions: how many regions they hold together.
    """
    power = np.mean(maps, axis=0)
    step = 1 / (len(power) * pixel_mm)
    rings = rings_of(len(power))
    count = len(power) // 2
    inside = (rings >= 1) & (rings <= count)
    radial = np.bincount(rings[inside], power[inside])[1:] / np.bincount(rings[inside])[1:]
    frequencies = step * np.arange(1, count + 1)
    deviation = float(np.sqrt(power.sum()) * step)
    noisy = deviation >= LEAST_HU
    return NoiseSpectrum(
        frequencies_per_mm=tuple(frequencies.tolist()),
        power_hu2_mm2=tuple(radial.tolist()),
        std_hu=deviation,
        peak_per_mm=float(frequencies[radial.argmax()]) if noisy else None,
        mean_per_mm=float((frequencies * radial).sum() / radial.sum()) if noisy else None,
        regions=regions,
    )


@lru_cache(maxsize=4)
def _trend(size: int) -> npt.NDArray[np.float64]:
    """An orthonormal basis of the polynomials of degree 2 in row and column: (size², 6)."""
    axis = np.linspace(-1, 1, size)
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    terms = (np.ones_like(rows), rows, columns, rows * columns, rows**2, columns**2)
    return np.linalg.qr(np.stack([term.ravel() for term in terms], axis=1))[0]


@lru_cache(maxsize=4)
def rings_of(size: int) -> npt.NDArray[np.int64]:
    """Which ring, one frequency step wide, each frequency of a square transform belongs to; 0 is the mean."""
    axis = np.fft.fftfreq(size, 1 / size)
    return np.rint(np.hypot(axis[:, None], axis[None])).astype(np.int64)
