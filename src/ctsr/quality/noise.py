"""Noise of real images: homogeneous regions, standard deviation in HU, power spectrum and mean frequency.

Anatomy is mostly of low spatial frequency, the noise of CT mostly not: a reconstruction filter rises from 0 at
frequency 0 (Riederer et al., Phys. Med. Biol. 23:446, 1978). So a window counts as homogeneous by the share of its
power that lies at one cycle a window and below, whatever its noise is; the noise at those frequencies, where anatomy
would be measured with it, is extrapolated from the ones above.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ctsr.errors import DomainError
from ctsr.hu import MASK_RIM, SOFT_TISSUE, FloatArray, tissue_mask
from ctsr.volume import PaddingMask, VoxelsHU

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
    # Sums of exact 0s and 1s in float64, so that "all of them" does not depend on rounding.
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


WINDOW_MM = (12.0, 8.0)
"""Side of a window; the second where the first finds too few (a neck, a child's arm)."""
WINDOW_PIXELS = (12, 64)
"""Fewest and most pixels of that side."""
SMOOTHING_MM, SMOOTHING_PIXELS = 1.4, 2.0
"""Standard deviation of the Gaussian that tells soft tissue from its noise: the larger of both."""
PIXELS_A_SLICE = 300_000
"""Most pixels of all windows of a slice together: more do not improve the estimate."""
LOW_RINGS = 2
"""Rings of the spectrum (0 and 1 cycle a window) that hold the trend and most of the anatomy."""
STEEPEST = 1.5
"""Largest ratio of the extrapolated density to that of the first ring that is measured."""
TREND_TERMS = 6
"""Polynomial terms that detrending removes, of the `LOW_RINGS`."""
FIRST_SHARE = 0.25
"""Fraction of all windows, those with the least low frequencies, for the first estimate of the spectrum."""
FEWEST = 8
"""Windows below which there is no estimate."""

Values: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NoiseEstimate:
    """The noise of a series; without figures where it has no homogeneous soft tissue."""

    sigma_hu: float | None
    """Standard deviation."""
    mean_frequency_per_mm: float | None
    """Mean of the radial noise power spectrum, weighted by its power; None as well where there is no noise."""
    num_regions: int
    """Windows that were measured; they overlap."""
    reason: str = ""
    """Why there are no figures."""


@dataclass(frozen=True, eq=False)
class HomogeneousWindows:
    """Square windows of soft tissue whose variation is noise."""

    size: int
    """Pixels along each side."""
    places: Places
    """(windows, 3): index of the slice, first row, first column."""
    spectrum: Values
    """(rings): power of each ring as a share of the power above the low rings, mean over windows; the low rings are
    extrapolated."""
    above: Values
    """(windows): variance above the low rings, HU²."""


def measure_noise(
    slices: Sequence[VoxelsHU],
    pixel_spacing: tuple[float, float],
    paddings: Sequence[PaddingMask | None] | None = None,
) -> NoiseEstimate:
    """The noise in the homogeneous soft tissue of a few slices.

    Args:
        slices: (rows, columns) each, HU; three of a series are enough.
        pixel_spacing: mm between rows, between columns.
        paddings: True where a slice was not reconstructed.

    Raises:
        DomainError: no slices, or a spacing that is not above 0.
    """
    windows = homogeneous_windows(slices, pixel_spacing, paddings)
    if windows is None:
        return NoiseEstimate(None, None, 0, f"fewer than {FEWEST} windows of soft tissue in {len(slices)} slices")
    return noise_in(windows, pixel_spacing)


def noise_in(windows: HomogeneousWindows, pixel_spacing: tuple[float, float]) -> NoiseEstimate:
    """The noise in windows that were found.

    Args:
        windows: from `homogeneous_windows`.
        pixel_spacing: mm between rows, between columns.
    """
    spectrum, size = windows.spectrum, windows.size
    counts = _ring_counts(size)
    density = spectrum / counts
    # The median of a variance with ν degrees of freedom lies below its mean (Wilson and Hilferty, 1931).
    freedom = spectrum.sum() ** 2 / (density**2 * counts).sum() if spectrum.sum() else 1.0
    median_to_mean = (1 - 2 / (9 * max(freedom, 1.0))) ** 3
    variance = float(np.median(windows.above)) * float(spectrum.sum()) / median_to_mean
    sigma = math.sqrt(variance)
    mean = _mean_frequency(density, size, _pixel_mm(pixel_spacing)) if sigma >= LEAST_HU else None
    return NoiseEstimate(sigma, mean, len(windows.places))


def homogeneous_windows(
    slices: Sequence[VoxelsHU],
    pixel_spacing: tuple[float, float],
    paddings: Sequence[PaddingMask | None] | None = None,
) -> HomogeneousWindows | None:
    """Where the variation of soft tissue is noise.

    Args:
        slices: (rows, columns) each, HU.
        pixel_spacing: mm between rows, between columns.
        paddings: True where a slice was not reconstructed.

    Returns:
        None where there are fewer than `FEWEST` windows of soft tissue.

    Raises:
        DomainError: no slices, or a spacing that is not above 0.
    """
    if not slices or min(pixel_spacing) <= 0:
        raise DomainError("noise is measured on at least one slice, with a pixel spacing above 0 mm")
    pixel_mm = _pixel_mm(pixel_spacing)
    for window_mm in WINDOW_MM:
        size = 2 * round(window_mm / pixel_mm / 2)
        size = min(max(size, WINDOW_PIXELS[0]), WINDOW_PIXELS[1])
        places = np.concatenate(
            [
                _soft_windows(image, None if paddings is None else paddings[index], index, size, pixel_mm)
                for index, image in enumerate(slices)
            ]
        )
        if len(places) >= FEWEST:
            return _selected(slices, places, size)
    return None


def cut_windows(slices: Sequence[VoxelsHU], places: Places, size: int) -> Values:
    """The windows at `places` (slice, row, column) of a list of slices: (windows, size, size)."""
    return np.stack([slices[i][row : row + size, column : column + size] for i, row, column in places]).astype(
        np.float64
    )


def _soft_windows(image: VoxelsHU, padding: PaddingMask | None, index: int, size: int, pixel_mm: float) -> Places:
    """(windows, 3): places of windows that lie in soft tissue as a whole."""
    if min(image.shape) < size:
        return np.zeros((0, 3), np.int64)
    sigma = max(SMOOTHING_PIXELS, SMOOTHING_MM / pixel_mm)
    smooth = ndimage.gaussian_filter(image.astype(np.float32), sigma)
    soft = (smooth > SOFT_TISSUE[0]) & (smooth < SOFT_TISSUE[1])
    if padding is not None:
        soft &= ~padding
    inside = np.asarray(ndimage.binary_erosion(soft, iterations=math.ceil(sigma)), np.float64)
    stride = max(1, size // 4)
    # Sums of exact 0s and 1s in float64, so that "all of them" does not depend on rounding.
    whole = square_means(inside, size)[::stride, ::stride] > 1 - 0.5 / size**2
    found = np.argwhere(whole) * stride
    most = max(FEWEST, PIXELS_A_SLICE // size**2)
    if len(found) > most:
        found = found[np.linspace(0, len(found) - 1, most).astype(np.int64)]
    return np.column_stack([np.full(len(found), index), found]).astype(np.int64)


def _selected(slices: Sequence[VoxelsHU], places: Places, size: int) -> HomogeneousWindows:
    """The windows in which low frequencies hold no more power than the noise above them lets expect."""
    power = _ring_power(detrended(cut_windows(slices, places, size)))
    low, above = power[:, :LOW_RINGS].sum(axis=1), power[:, LOW_RINGS:].sum(axis=1)
    ratio = low / np.maximum(above, LEAST_HU**2)
    order = np.argsort(ratio, kind="stable")
    kept = order[: max(FEWEST, round(FIRST_SHARE * len(order)))]
    freedom = int(_ring_counts(size)[:LOW_RINGS].sum()) - TREND_TERMS
    spectrum = _spectrum(power[kept], above[kept], size)
    for _ in range(4):
        density = spectrum / _ring_counts(size)
        expected = max(float(spectrum[:LOW_RINGS].sum() - TREND_TERMS * density[0]), 1e-3)
        # Two standard deviations of a sum of this many independent powers above what noise alone would have.
        limit = expected * (1 + 2 * math.sqrt(2 / freedom))
        wider = order[: max(FEWEST, int((ratio <= limit).sum()))]
        if len(wider) == len(kept):
            break
        kept = wider
        spectrum = _spectrum(power[kept], above[kept], size)
    return HomogeneousWindows(size, places[kept], spectrum, above[kept])


def _spectrum(power: Values, above: Values, size: int) -> Values:
    """(windows, rings) → (rings): the mean shape, its low rings extrapolated by a line through the next three.

    Where the ring of one cycle holds less than that, anatomy is not what it holds: then it is taken as measured.
    """
    shape = (power / np.maximum(above, LEAST_HU**2)[:, None]).mean(axis=0)
    counts = _ring_counts(size)
    density = shape / counts
    next_rings = np.arange(LOW_RINGS, LOW_RINGS + 3)
    slope, start = np.polyfit(next_rings, density[next_rings], 1)
    most = min(STEEPEST * density[LOW_RINGS], density[1] / _left_by_detrending(size))
    low = (start + slope * np.arange(LOW_RINGS)).clip(0, most)
    return np.concatenate([low * counts[:LOW_RINGS], shape[LOW_RINGS:]])


def _ring_power(windows: Values) -> Values:
    """(windows, size, size) → (windows, rings): variance by cycles a window, in all its own."""
    size = windows.shape[-1]
    power = np.abs(np.fft.fft2(windows)) ** 2 / size**4
    rings = rings_of(size).ravel()
    return power.reshape(len(windows), -1) @ np.eye(int(rings.max()) + 1)[rings]


def _mean_frequency(density: Values, size: int, pixel_mm: float) -> float:
    """Mean frequency of the radial spectrum, from half a cycle a window to the Nyquist frequency; 1/mm.

    What lies below is left out: of CT noise it is next to nothing, and it cannot be measured in a window.
    """
    rings = np.arange(1, size // 2 + 1)
    weights = np.where(rings == size // 2, 0.5, 1.0) * density[rings]
    return float((weights * rings).sum() / weights.sum()) / (size * pixel_mm)


def _pixel_mm(pixel_spacing: tuple[float, float]) -> float:
    return math.sqrt(pixel_spacing[0] * pixel_spacing[1])


@lru_cache(maxsize=4)
def _ring_counts(size: int) -> Values:
    """Frequencies in each ring."""
    return np.bincount(rings_of(size).ravel()).astype(np.float64)


@lru_cache(maxsize=4)
def _left_by_detrending(size: int) -> float:
    """Share of the power of white noise that a window without its trend keeps in the ring of one cycle."""
    rows, columns = np.argwhere(rings_of(size) == 1).T
    pixels = np.arange(size)
    phase = 2 * np.pi / size * (pixels[:, None] * rows[:, None, None] + pixels * columns[:, None, None])
    left = detrended(np.cos(phase)) ** 2 + detrended(np.sin(phase)) ** 2
    return float(left.mean())
