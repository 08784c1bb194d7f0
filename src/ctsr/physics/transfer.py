"""Task transfer function: what a method leaves of an edge, and how well an observer sees a disc by it.

The edge of a disc is sampled at every angle, so its radial profile is finer than the pixels (Richard et al., Med. Phys.
39:4115, 2012; AAPM TG-233, 2019).

Detectability is that of the non-prewhitening matched filter of ICRU Report 54 (1996) and AAPM TG-233 (Samei et al.,
2019), without an eye filter and internal noise: ``d′² = [∬|W|²·TTF²]² / ∬|W|²·TTF²·NPS``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import j1

from ctsr.errors import DomainError
from ctsr.hu import FloatArray
from ctsr.quality.noise import LEAST_HU, NoiseSpectrum
from ctsr.through_plane import Block, SliceProfile, ThickenedVolume, thicken

BIN = 0.25
"""Width of the profile's bins, pixels."""
REACH = 20.0
"""Pixels of a phantom's profile on either side of the edge."""
STEPS = 100
"""Frequencies from 0 to 1/pixel."""

Values = npt.NDArray[np.float64]

Task = Callable[[Values], Values]
"""Radial frequency in 1/mm → |W|: the Fourier transform of what is to be detected, HU·mm²."""
INTEGRAL_STEPS = 2000
"""Frequencies of the integral."""

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EdgeProfile:
    """Sums over the pixels of one image by their distance from the edge; profiles add up."""

    sums: Values
    """(bins), HU."""
    counts: Values
    """(bins), pixels."""


@dataclass(frozen=True)
class TransferFunction:
    """A task transfer function, 1 at frequency 0."""

    frequencies_per_mm: tuple[float, ...]
    """From 0 to 1/pixel: the profile is finer than the pixels, so it reaches beyond their Nyquist frequency."""
    values: tuple[float, ...]
    mtf50_per_mm: float | None
    """Where it first falls to 0.5; None where it does not."""
    mtf10_per_mm: float | None
    """Where it first falls to 0.1; None where it does not."""
    mtf50_error_per_mm: float | None
    """Standard error of `mtf50_per_mm` by the jackknife over images; None with one image, or without a width."""
    mtf10_error_per_mm: float | None
    """The same of `mtf10_per_mm`."""


def edge_profile(image: FloatArray, center: tuple[float, float], radius: float, *, reach: float = REACH) -> EdgeProfile:
    """The profile of one image of a disc.

    Args:
        image: (rows, columns), HU.
        center: row and column, pixels.
        radius: pixels, more than `reach`.
        reach: pixels of the profile on either side of the edge.

    Raises:
        DomainError: the disc is too small, or too near the border, for a profile of `reach` pixels on either side.
    """
    room = min(*center, image.shape[0] - 1 - center[0], image.shape[1] - 1 - center[1])
    if radius <= reach or room < radius + reach:
        raise DomainError(
            f"a disc of radius {radius:g} at {center[0]:g}, {center[1]:g} in {image.shape[0]}×{image.shape[1]} pixels "
            f"leaves no {reach:g} pixels on either side of its edge"
        )
    offset = distances(image.shape, center) - radius
    near = np.abs(offset) < reach
    index = ((offset[near] + reach) / BIN).astype(np.int64)
    bins = math.ceil(2 * reach / BIN)
    sums = np.bincount(index, image[near].astype(np.float64), minlength=bins)
    counts = np.bincount(index, minlength=bins)
    return EdgeProfile(np.asarray(sums, np.float64), np.asarray(counts, np.float64))


def transfer_function(profiles: Sequence[EdgeProfile], pixel_mm: float, *, reach: float = REACH) -> TransferFunction:
    """The transfer function of the images' mean profile, with the error of its widths.

    Args:
        profiles: of discs of one size, at least one; sub-pixel positions that differ make it independent of the grid.
        pixel_mm: side of a pixel.
        reach: of the profiles, pixels.

    Raises:
        DomainError: no profiles.
    """
    if not profiles:
        raise DomainError("a transfer function needs at least one image of a disc")
    sums = np.stack([profile.sums for profile in profiles])
    counts = np.stack([profile.counts for profile in profiles])
    frequencies = np.linspace(0, 1 / pixel_mm, STEPS + 1)
    # Each image left out once: how far the widths depend on which images there happened to be.
    left_out = slice(None) if len(profiles) > 1 else slice(0)
    all_sums = np.vstack([sums.sum(axis=0), sums.sum(axis=0) - sums[left_out]])
    all_counts = np.vstack([counts.sum(axis=0), counts.sum(axis=0) - counts[left_out]])
    values, *others = _transfer(all_sums, all_counts, reach)
    return TransferFunction(
        frequencies_per_mm=tuple(frequencies.tolist()),
        values=tuple(values.tolist()),
        mtf50_per_mm=falls_to(0.5, frequencies, values),
        mtf10_per_mm=falls_to(0.1, frequencies, values),
        mtf50_error_per_mm=_jackknife([falls_to(0.5, frequencies, curve) for curve in others]),
        mtf10_error_per_mm=_jackknife([falls_to(0.1, frequencies, curve) for curve in others]),
    )


def falls_to(level: float, frequencies: Values, values: Values) -> float | None:
    """The first frequency at which a curve falls to `level`, interpolated; None where it stays above."""
    below = np.flatnonzero(values <= level)
    if not below.size:
        return None
    after = int(below[0])
    if after == 0:
        return float(frequencies[0])
    part = (values[after - 1] - level) / (values[after - 1] - values[after])
    return float(frequencies[after - 1] + part * (frequencies[after] - frequencies[after - 1]))


@dataclass(frozen=True)
class DiscTask:
    """A uniform disc to be detected on a known ground."""

    diameter_mm: float
    contrast_hu: float

    def __post_init__(self) -> None:
        if not self.diameter_mm > 0:
            raise DomainError(f"a disc needs a diameter above 0 mm, got {self.diameter_mm:g}")

    def __call__(self, frequencies: Values) -> Values:
        """``|C|·(πD²/4)·2·J₁(πDf)/(πDf)``, HU·mm²."""
        x = np.pi * self.diameter_mm * frequencies
        shape = np.where(x > 1e-9, 2 * j1(x) / np.where(x > 1e-9, x, 1), 1.0)
        return abs(self.contrast_hu) * np.pi * self.diameter_mm**2 / 4 * shape


def detectability(task: Task, transfer: TransferFunction, noise: NoiseSpectrum) -> float | None:
    """d′ of the non-prewhitening observer for a task in images of that resolution and noise.

    Both curves are taken as isotropic and integrated up to the end of the noise spectrum, the image's Nyquist
    frequency; below its first ring, which detrending empties in part, the noise is that of the ring.

    Args:
        task: a `DiscTask`, or any function of the radial frequency.
        transfer: measured at the task's contrast and dose.
        noise: measured at the same dose.

    Returns:
        None where there is no noise but that of rounding, and so no limit to detecting.
    """
    frequencies, step = np.linspace(0, noise.frequencies_per_mm[-1], INTEGRAL_STEPS, retstep=True)
    ttf = np.interp(frequencies, transfer.frequencies_per_mm, transfer.values)
    nps = np.interp(frequencies, noise.frequencies_per_mm, noise.power_hu2_mm2)
    ring = 2 * np.pi * frequencies * step
    signal = ring * (task(frequencies) * ttf) ** 2
    against = float((signal * nps).sum())
    if noise.std_hu < LEAST_HU or against == 0:
        return None
    return float(signal.sum()) / against**0.5


def distances(shape: Sequence[int], center: tuple[float, float]) -> Weights:
    """How far each pixel's centre is from `center` (row, column; pixel (0, 0) has its centre at 0, 0), in pixels."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(rows - center[0], columns - center[1])


def soft_disc(shape: Sequence[int], center: tuple[float, float], radius: float, edge: float = 1.0) -> Weights:
    """1 in a disc, 0 outside, linear in between over `edge` pixels about the radius.

    With an edge of one pixel the disc's line spread is a box one pixel wide in every direction, so its own transfer
    function is ``sinc(f · pixel)``: that of a pixel.

    Args:
        shape: rows and columns.
        center: row and column, need not be whole numbers.
        radius: pixels, where the value is ½.
        edge: pixels, above 0.
    """
    return np.clip(0.5 + (radius - distances(shape, center)) / edge, 0.0, 1.0)


# Between slices


DISC_PIXELS, DISC_RADIUS, DISC_GROUND_HU, DISC_HU = 48, 16, 40.0, 300.0
"""Side of the phantom of `slice_sensitivity` and radius of its disc, pixels; HU around it, and what the disc adds."""
DISC_SLICES, DISC_PHASES = 11, 5
"""Thick slices of the phantom, and places of the disc between two of them."""


def slice_sensitivity(
    make: Callable[[ThickenedVolume], Block], profile: SliceProfile, distance: float, step: float
) -> float | None:
    """Width along z of a thin disc as a method shows it: FWHM of its slice sensitivity profile, mm.

    The disc is one wanted slice thick and lies at several places between two thick slices; the mean over its middle is
    taken, and the widths are averaged.

    Args:
        make: computes the wanted slices from thick ones.
        profile: of the thick slices.
        distance: between them, mm.
        step: between the wanted slices, mm.

    Returns:
        None where the disc does not show.
    """
    count = math.ceil((DISC_SLICES - 1) * distance / step) + 2 * math.ceil(profile.reach / step)
    center = (DISC_PIXELS - 1) / 2
    disc = soft_disc((DISC_PIXELS, DISC_PIXELS), (center, center), DISC_RADIUS).astype(np.float32)
    middle = disc >= 1
    widths: list[float] = []
    for phase in range(DISC_PHASES):
        thin = np.full((count, *disc.shape), DISC_GROUND_HU, np.float32)
        thin[count // 2 + round(phase * distance / step / DISC_PHASES)] += DISC_HU * disc
        curve = make(thicken(thin, step, profile, distance))[:, middle].mean(axis=1) - DISC_GROUND_HU
        if (width := full_width(curve.astype(np.float64))) is not None:
            widths.append(width * step)
    return float(np.mean(widths)) if widths else None


def full_width(curve: Values) -> float | None:
    """Width of a curve at half of its maximum, in samples; None where it does not fall to that on both sides."""
    top = int(curve.argmax())
    places = np.arange(len(curve), dtype=np.float64)
    half = float(curve[top]) / 2
    if not half > 0:
        return None
    right = falls_to(half, places[top:], curve[top:])
    left = falls_to(half, places[: top + 1], curve[top::-1])
    return None if right is None or left is None else right - top + left


def _transfer(sums: Values, counts: Values, reach: float) -> Values:
    """Profiles → edge spreads → line spreads → their normalised Fourier transforms up to 1 cycle/pixel.

    Args:
        sums: (n, bins).
        counts: the same shape.
        reach: of the profiles, pixels; the line spread counts in full over half of it and fades out beyond.

    Returns:
        (n, `STEPS` + 1).
    """
    line = np.diff(sums / np.maximum(counts, 1))
    places = np.arange(1, sums.shape[1]) * BIN - reach
    frequencies = np.linspace(0, 1, STEPS + 1)
    waves = np.exp(-2j * np.pi * np.outer(places, frequencies))
    spectrum = np.abs((line * np.clip((reach - np.abs(places)) / (reach / 2), 0, 1)) @ waves)
    # Averaging over a bin and differencing between bins each blur the line spread by one bin's width.
    return spectrum / (spectrum[:, :1] * np.sinc(frequencies * BIN) ** 2)


def _jackknife(estimates: Sequence[float | None]) -> float | None:
    known = np.array([estimate for estimate in estimates if estimate is not None])
    if len(known) < 2 or len(known) < len(estimates):
        return None
    return float(np.sqrt((len(known) - 1) * np.mean((known - known.mean()) ** 2)))
