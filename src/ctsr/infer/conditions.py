"""What a conditional network is told of an image: what it was made with, what is measured, or what is asked for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ctsr.degrade import Degradation, DegradationParams
from ctsr.degrade.degradation import Range
from ctsr.errors import DomainError
from ctsr.hu import AIR, HURange
from ctsr.models.conditioning import ANCHOR, Conditions, with_conditions
from ctsr.padding import SlicePixels
from ctsr.quality.noise import measure_noise
from ctsr.quality.sharpness import measure_sharpness
from ctsr.volume import VoxelsHU

SAMPLE_SLICES = 3
"""Slices of a series that are measured, evenly spread."""
BLOCK = 32
"""LR pixels along each side of the squares whose spectra are averaged; they overlap by half."""
BODY_HU, BODY_SHARE = -300.0, 0.6
"""A square counts where this share of it lies above."""
FEWEST_BLOCKS = 4
BANDS = ((0.13, 0.18), (0.23, 0.28), (0.33, 0.38), (0.43, 0.48))
"""Cycles per LR pixel, along any direction."""
CORNER = (0.56, 0.71)
"""The corners of the spectrum, where blurred anatomy and the noise of a scanner have least: what is there is white."""
USUAL_EDGE = 0.28
"""LR pixels²: variance of edges where too few can be measured; the median of the fit by `benchmarks.conditions`."""
BLUR_FROM = {
    2: (0.7592, 1.113, -0.949, 0.02746, 0.05521, 0.2257, -0.4708, 0.01973),
    4: (-1.677, 2.681, -2.574, 0.5257, 0.5723, 0.3008, -1.08, -0.9777),
}
"""By scale: the variance of the blur, HR pixels², is the first plus the others times `blur_features`. Fitted on the
training patients by `benchmarks.conditions`. A blur that is told too high costs about twice what
one costs that is told too low by as much, so the first is lower by `TOWARDS_SAFETY` of the residual deviation."""
TOWARDS_SAFETY = 0.3
LIKE_WITHIN = 0.05
"""Share by which a condition may lie beyond those of the training and still be like them."""
LEAST_SHARE_ADDED = 0.35
"""Least share of the measured noise that was added to an image."""

StrengthName: TypeAlias = Literal["faithful", "standard", "strong"]

MOST_NOISE = 1.5
"""Times the measured noise: what denoising tells the network, at any strength. Told less than there is, a network takes
what is left for structure and draws it as strokes."""
MOST_BLUR = {2: 1.1, 4: 2.0}
"""HR pixels by scale, standard deviation: what full sharpening tells the network."""


def drawn_conditions(params: DegradationParams, scale: int) -> Conditions:
    """The blur and the noise that an LR image was made with, the blur of the downsampling included."""
    return Conditions(params.total_blur_sigma(scale), params.noise_std)


class DrawnRange(NamedTuple):
    """The least and the most that a degradation draws."""

    blur: Range
    """As `Conditions.blur_sigma`."""
    noise: Range
    """As `Conditions.noise_sigma`; without end for the noise of exams, which may be any."""


def drawn_range(degradation: Degradation) -> DrawnRange:
    """The blur and the noise that `drawn_conditions` gives for what a degradation draws."""
    sigmas = (0.0, 0.0) if degradation.mode == "clean" else degradation.sigma_range
    few, many = degradation.dose_factor_range
    quiet, loud = degradation.noise_sigma_range if degradation.mode == "blurnoise" else (0.0, 0.0)
    found: list[Conditions] = []
    for sigma, (noise, dose), downsampling, model in product(
        sigmas, ((quiet, many), (loud, few)), degradation.applied_downsampling, degradation.noise_model
    ):
        kernel = degradation.kernel_for(sigma)
        params = DegradationParams(sigma if kernel > 1 else 0.0, kernel, noise, dose, downsampling, model)
        found.append(drawn_conditions(params, degradation.scale))
    blurs, noises = [each.blur_sigma for each in found], [each.noise_sigma for each in found]
    if "exam" in degradation.noise_model and degradation.mode == "blurnoise":
        noises += [0.0, math.inf]
    return DrawnRange((min(blurs), max(blurs)), (min(noises), max(noises)))


def beyond_training(told: Conditions, trained_for: Degradation, hu_range: HURange) -> list[str]:
    """A line for each condition that a network is told and that its training did not draw.

    Args:
        told: the conditions.
        trained_for: what the network was trained on.
        hu_range: HU that it sees as [-1, 1].
    """
    drawn = drawn_range(trained_for)
    lines: list[str] = []
    for what, value, (least, most), per_unit, unit in (
        ("a blur", told.blur_sigma, drawn.blur, 1.0, "pixels of the result"),
        ("noise", told.noise_sigma, drawn.noise, hu_range.hu_per_unit, "HU"),
    ):
        value, low, high = value * per_unit, least * per_unit, most * per_unit
        if not low * (1 - LIKE_WITHIN) <= value <= high * (1 + LIKE_WITHIN):
            lines.append(
                f"the model is told {what} of {value:.3g} {unit} and was trained on {low:.3g} … {high:.3g}: what it "
                "makes of that is a guess; compare the result with bicubic interpolation"
            )
    return lines


def estimated_conditions(
    slices: Sequence[SlicePixels], pixel_spacing: tuple[float, float], scale: int, hu_range: HURange
) -> Conditions:
    """The blur and the noise that a few slices of a series seem to have been made with.

    What an image was like before it was degraded is not known, only what images are like. A blur is told from a soft
    reconstruction by the edges and the spectrum of the body, as far as that goes (`BLUR_FROM`). Added noise is told
    from the scanner's own, which is part of what is looked for, by being white: noise of a reconstruction has next to
    nothing in the corners of the spectrum. Correlated noise cannot be told apart, see `LEAST_SHARE_ADDED`.

    Args:
        slices: of one series, HU.
        pixel_spacing: of these slices, mm between rows, between columns.
        scale: SR pixels per pixel of these slices.
        hu_range: HU that the network sees as [-1, 1].

    Returns:
        Blur in SR pixels, noise in [-1, 1] units; 0 for what cannot be measured.
    """
    hu, paddings = [pixels.hu for pixels in slices], [pixels.padding for pixels in slices]
    measured_hu = measure_noise(hu, pixel_spacing, paddings).sigma_hu
    spectrum = body_spectrum(slices)
    if spectrum is None:
        return Conditions(0.0, LEAST_SHARE_ADDED * (measured_hu or 0.0) / hu_range.hu_per_unit)
    noise_hu = spectrum.white_hu
    if measured_hu is not None:
        noise_hu = min(max(noise_hu, LEAST_SHARE_ADDED * measured_hu), measured_hu)
    first, *others = BLUR_FROM[scale]
    variance = first + float(np.dot(others, blur_features(slices, pixel_spacing, spectrum)))
    return Conditions(math.sqrt(min(max(variance, 0.0), MOST_BLUR[scale] ** 2)), noise_hu / hu_range.hu_per_unit)


@dataclass(frozen=True, eq=False)
class BodySpectrum:
    """Power of the body by frequency, in units in which white noise has its variance everywhere."""

    bands: npt.NDArray[np.float64]
    """HU², of each of `BANDS`: mean over all squares."""
    white_hu: float
    """Standard deviation of white noise that would have the power of the corners."""


def body_spectrum(slices: Sequence[SlicePixels]) -> BodySpectrum | None:
    """The spectrum of the body in a few slices; None where there are fewer than `FEWEST_BLOCKS` squares of it."""
    squares = list[npt.NDArray[np.float64]]()
    for pixels in slices:
        for top in range(0, pixels.hu.shape[0] - BLOCK + 1, BLOCK // 2):
            for left in range(0, pixels.hu.shape[1] - BLOCK + 1, BLOCK // 2):
                part = slice(top, top + BLOCK), slice(left, left + BLOCK)
                inside = (pixels.hu[part] > BODY_HU).mean() >= BODY_SHARE
                if inside and (pixels.padding is None or not pixels.padding[part].any()):
                    square = np.maximum(pixels.hu[part], AIR).astype(np.float64)
                    squares.append(square - square.mean())
    if len(squares) < FEWEST_BLOCKS:
        return None
    taper = np.hanning(BLOCK + 1)[:-1]
    window = np.outer(taper, taper) / np.mean(taper**2)
    power = np.abs(np.fft.fft2(np.stack(squares) * window)) ** 2 / BLOCK**2
    axis = np.fft.fftfreq(BLOCK)
    frequency = np.hypot(axis[:, None], axis)

    def band(low: float, high: float) -> npt.NDArray[np.float64]:
        return power[:, (frequency >= low) & (frequency < high)].mean(axis=1)

    bands = np.array([band(*limits).mean() for limits in BANDS])
    # Geometric mean: a bone's edge in one square does not count as noise of all.
    corner = math.exp(np.log(band(*CORNER) + 1e-6).mean())
    return BodySpectrum(bands, math.sqrt(corner))


def blur_features(
    slices: Sequence[SlicePixels], pixel_spacing: tuple[float, float], spectrum: BodySpectrum
) -> npt.NDArray[np.float64]:
    """What `BLUR_FROM` weighs of a few slices.

    Returns:
        (7): variance of the sharpest edges in pixels², pixels per mm² (a scanner blurs by mm), ln of the power in each
        of `BANDS` above white noise, ln of that noise; HU.
    """
    hu, paddings = [pixels.hu for pixels in slices], [pixels.padding for pixels in slices]
    sigma = measure_sharpness(hu, pixel_spacing, paddings).blur_sigma_pixels
    edge = USUAL_EDGE if sigma is None else sigma**2
    above = np.maximum(spectrum.bands - spectrum.white_hu**2, 0)
    return np.array([edge, 1 / (pixel_spacing[0] * pixel_spacing[1]), *np.log1p(above), math.log1p(spectrum.white_hu)])


def network_input(lr: Tensor, params: Sequence[DegradationParams], *, scale: int, conditional: bool) -> Tensor:
    """What a network takes to see LR images that were made with `params`.

    Args:
        lr: ``(N, 1, h, w)`` in [-1, 1].
        params: one for each of the N images.
        scale: HR pixels per LR pixel.
        conditional: whether the network takes conditions.

    Returns:
        ``(N, 1, h, w)``, or ``(N, 3, h, w)`` for a conditional network.
    """
    return with_conditions(lr, [drawn_conditions(p, scale) for p in params]) if conditional else lr


@dataclass(frozen=True)
class Strength:
    """What is wanted of a super-resolution; 0 is nothing, 1 is all that makes sense."""

    denoise: float
    """Above 0 the network is told `MOST_NOISE` times the noise of the series and removes next to all of it, faint
    anatomy of the size of a few pixels as well. The source's low frequencies are given back, see `anchor`: the fewer,
    the more is denoised. At 0 it is told none."""
    sharpen: float
    """The network is told a blur of `sharpen`·`MOST_BLUR` HR pixels."""

    def __post_init__(self) -> None:
        for name, value in (("denoise", self.denoise), ("sharpen", self.sharpen)):
            if not 0 <= value <= 1:
                raise DomainError(f"{name} must lie between 0 and 1, got {value:g}")

    @property
    def anchor(self) -> float:
        """LR pixels: standard deviation of the Gaussian whose passband is the source's."""
        return self.denoise * ANCHOR if self.denoise > 0 else ANCHOR

    def conditions(self, noise_hu: float, scale: int, hu_range: HURange) -> Conditions:
        """What to tell the network of a series with this noise, standard deviation in HU."""
        told_hu = MOST_NOISE * noise_hu if self.denoise > 0 else 0.0
        return Conditions(self.sharpen * MOST_BLUR[scale], told_hu / hu_range.hu_per_unit, self.anchor)


STRENGTHS: dict[StrengthName, Strength] = {
    "faithful": Strength(denoise=0.0, sharpen=0.0),
    "standard": Strength(denoise=0.4, sharpen=0.25),
    "strong": Strength(denoise=1.0, sharpen=0.8),
}
"""`faithful` resolves what the pixels hold and leaves noise and blur as they are. `standard` removes noise and
keeps three quarters of faint contrasts. `strong` removes what it can, and undoes the blur of a soft reconstruction."""


def measured_conditions(
    slices: Sequence[SlicePixels], pixel_spacing: tuple[float, float], scale: int, hu_range: HURange, kind: str
) -> Conditions:
    """What a few slices of a series make a network to be told.

    Args:
        slices: of one series, HU.
        pixel_spacing: of these slices, mm between rows, between columns.
        scale: SR pixels per pixel of these slices.
        hu_range: HU that the network sees as [-1, 1].
        kind: `estimated`, see `estimated_conditions`, or the name of a strength: what that tells of their noise.
    """
    if kind == "estimated":
        return estimated_conditions(slices, pixel_spacing, scale, hu_range)
    strength = next(strength for name, strength in STRENGTHS.items() if name == kind)
    noise = measure_noise([pixels.hu for pixels in slices], pixel_spacing, [pixels.padding for pixels in slices])
    return strength.conditions(noise.sigma_hu or 0.0, scale, hu_range)


def measured_in(lr_hu: VoxelsHU, *, pixel_mm: float, scale: int, hu_range: HURange, kind: str) -> Conditions:
    """`measured_conditions` of a single slice with square pixels."""
    return measured_conditions([SlicePixels(lr_hu, None)], (pixel_mm, pixel_mm), scale, hu_range, kind)
