"""What a conditional network is told of an image: what it was made with, what is measured, or what is asked for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import Tensor

from ctsr.degrade import DegradationParams
from ctsr.errors import DomainError
from ctsr.hu import HURange
from ctsr.models.conditioning import Conditions, with_conditions
from ctsr.padding import SlicePixels
from ctsr.quality.noise import measure_noise
from ctsr.quality.sharpness import measure_sharpness

SAMPLE_SLICES = 3
"""Slices of a series that are measured, evenly spread."""
SHARPEST_PIXELS = 0.87
"""HR pixels, standard deviation: edges of an image that was downsampled and not blurred, the median over the series of
`benchmarks.conditions`. Scanners differ (0.46 … 1.06), and what a scanner blurred cannot be told from what a
degradation did: an estimate of the blur is off by up to 0.8 pixels."""

StrengthName: TypeAlias = Literal["faithful", "standard", "strong"]

MOST_NOISE = 1.5
"""Times the measured noise: what full denoising tells the network."""
MOST_BLUR = {2: 1.1, 4: 2.0}
"""HR pixels by scale, standard deviation: what full sharpening tells the network."""


def drawn_conditions(params: DegradationParams, scale: int) -> Conditions:
    """The blur and the noise that an LR image was made with, the blur of the downsampling included."""
    return Conditions(params.total_blur_sigma(scale), params.noise_std)


def estimated_conditions(
    slices: Sequence[SlicePixels], pixel_spacing: tuple[float, float], scale: int, hu_range: HURange
) -> Conditions:
    """The blur and the noise that are measured in a few slices of a series.

    Noise is measured as `ctsr upscale` does. The blur is what edges have beyond `SHARPEST_PIXELS`: variances of
    Gaussians add up.

    Args:
        slices: of one series, HU.
        pixel_spacing: of these slices, mm between rows, between columns.
        scale: SR pixels per pixel of these slices.
        hu_range: HU that the network sees as [-1, 1].

    Returns:
        Blur in SR pixels, noise in [-1, 1] units; 0 for what cannot be measured.
    """
    hu, paddings = [pixels.hu for pixels in slices], [pixels.padding for pixels in slices]
    noise = measure_noise(hu, pixel_spacing, paddings)
    edges = measure_sharpness(hu, pixel_spacing, paddings)
    edge_sigma = scale * (edges.blur_sigma_pixels or 0.0)
    blur_sigma = math.sqrt(max(edge_sigma**2 - SHARPEST_PIXELS**2, 0.0))
    return Conditions(blur_sigma, (noise.sigma_hu or 0.0) / hu_range.hu_per_unit)


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
    """The network is told `denoise`·`MOST_NOISE` times the noise of the series."""
    sharpen: float
    """The network is told a blur of `sharpen`·`MOST_BLUR` HR pixels."""

    def __post_init__(self) -> None:
        for name, value in (("denoise", self.denoise), ("sharpen", self.sharpen)):
            if not 0 <= value <= 1:
                raise DomainError(f"{name} must lie between 0 and 1, got {value:g}")

    def conditions(self, noise_hu: float, scale: int, hu_range: HURange) -> Conditions:
        """What to tell the network of a series with this noise, standard deviation in HU."""
        told_hu = self.denoise * MOST_NOISE * noise_hu
        return Conditions(self.sharpen * MOST_BLUR[scale], told_hu / hu_range.hu_per_unit)


STRENGTHS: dict[StrengthName, Strength] = {
    "faithful": Strength(denoise=0.0, sharpen=0.0),
    "standard": Strength(denoise=2 / 3, sharpen=0.25),
    "strong": Strength(denoise=1.0, sharpen=0.8),
}
"""`faithful` resolves what the pixels hold and leaves noise and blur as they are. `standard` removes the noise that was
measured. `strong` removes more than that, and undoes the blur of a soft reconstruction."""
