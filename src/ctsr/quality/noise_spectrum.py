"""Noise power spectrum, and where a slice is homogeneous enough that what varies in it is noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ctsr.errors import DomainError
from ctsr.hu import FloatArray
from ctsr.tissue import MASK_RIM, SOFT_TISSUE, tissue_mask

LEAST_HU = 0.01
"""Standard deviation below which there is no noise but that of rounding."""

PowerMap = npt.NDArray[np.float64]

SMOOTH = 2.0
"""Standard deviation in pixels of the Gaussian that parts structure from noise."""
STRIDE = 4
"""Pixels between the regions that are tried."""
STRUCTURE = 12.0
"""HU: a region whose smoothed values spread further holds structure, not noise alone."""


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
def rings_of(size: int) -> npt.NDArray[np.int64]:
    """Which ring, one frequency step wide, each frequency of a square transform belongs to; 0 is the mean."""
    axis = np.fft.fftfreq(size, 1 / size)
    return np.rint(np.hypot(axis[:, None], axis[None])).astype(np.int64)


@dataclass(frozen=True)
class Region:
    """A square of a slice, pixels."""

    row: int
    column: int
    size: int


def homogeneous_regions(
    reference: FloatArray, *, size: int = 32, most: int = 6, padding: npt.NDArray[np.bool_] | None = None
) -> tuple[Region, ...]:
    """Squares of soft tissue with the least structure, best first; they do not overlap.

    Structure is the standard deviation of the smoothed slice, so a noisy slice is not taken for a structured one; every
    smoothed pixel of a region is soft tissue.

    Args:
        reference: (rows, columns), HU: where regions lie is decided on the reference alone, for all methods.
        size: pixels along each side.
        most: how many at most.
        padding: True where nothing was reconstructed.

    Returns:
        None to `most` regions: there need not be any.
    """
    if min(reference.shape) < size:
        return ()
    mask = tissue_mask(reference, *SOFT_TISSUE)
    if padding is not None:
        mask &= np.asarray(ndimage.binary_erosion(~padding, iterations=MASK_RIM), dtype=bool)
    smooth = ndimage.gaussian_filter(reference.astype(np.float64), SMOOTH)
    spread = np.sqrt(np.maximum(square_means(smooth**2, size) - square_means(smooth, size) ** 2, 0))
    # Sums of exact 0s and 1s in float64, so "all of them" is no matter of rounding.
    spread[square_means(mask.astype(np.float64), size) < 1 - 0.5 / size**2] = np.inf
    return _best(spread[::STRIDE, ::STRIDE], size, most)


def cut(image: FloatArray, regions: Sequence[Region]) -> FloatArray:
    """The regions of an image: (n, size, size)."""
    pieces = []
    for region in regions:
        rows = slice(region.row, region.row + region.size)
        pieces.append(image[rows, region.column : region.column + region.size])
    return np.stack(pieces)


def square_means(image: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Mean of the square that begins at each pixel, for all squares inside the image."""
    sums = np.pad(image, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    return (sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]) / size**2


@lru_cache(maxsize=4)
def _trend(size: int) -> npt.NDArray[np.float64]:
    """An orthonormal basis of the polynomials of degree 2 in row and column: (size², 6)."""
    axis = np.linspace(-1, 1, size)
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    terms = (np.ones_like(rows), rows, columns, rows * columns, rows**2, columns**2)
    return np.linalg.qr(np.stack([term.ravel() for term in terms], axis=1))[0]


def _best(spread: npt.NDArray[np.float64], size: int, most: int) -> tuple[Region, ...]:
    """The places with the least spread, one after the other, each at least `size` pixels from those before."""
    spread, apart, chosen = spread.copy(), -(-size // STRIDE), list[Region]()
    while len(chosen) < most and spread.size and spread.min() <= STRUCTURE:
        place = np.unravel_index(int(spread.argmin()), spread.shape)
        row, column = int(place[0]), int(place[1])
        chosen.append(Region(row * STRIDE, column * STRIDE, size))
        top, left = max(0, row - apart + 1), max(0, column - apart + 1)
        spread[top : row + apart, left : column + apart] = np.inf
    return tuple(chosen)
