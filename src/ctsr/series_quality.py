"""Noise and sharpness of a series on disk, from a few of its slices."""

from collections.abc import Sequence
from dataclasses import dataclass

from ctsr.exams import read_slice
from ctsr.padding import SlicePixels
from ctsr.quality.noise import NoiseEstimate, measure_noise
from ctsr.quality.sharpness import SharpnessEstimate, measure_sharpness
from ctsr.series import Series

SLICES = 5
"""Looked at in a series, unless told otherwise."""


@dataclass(frozen=True)
class SeriesQuality:
    """What was measured in a series, and where."""

    noise: NoiseEstimate
    sharpness: SharpnessEstimate
    slice_indices: tuple[int, ...]


def spread_indices(count: int, most: int = SLICES) -> tuple[int, ...]:
    """Indices of up to `most` slices spread evenly over a series of `count`, not its very ends."""
    if count <= most:
        return tuple(range(count))
    return tuple(int((i + 0.5) * count / most) for i in range(most))


def measure_series(series: Series, *, slices: int = SLICES, assume_hu: bool = False) -> SeriesQuality:
    """Noise and sharpness of a series.

    Args:
        series: as a scan found it.
        slices: how many are decoded at most.
        assume_hu: take stored values for HU where the header gives no rescale.

    Raises:
        ReadError: a slice cannot be decoded, or has no rescale.
    """
    indices = spread_indices(len(series.slices), slices)
    found = [read_slice(series, index, assume_hu=assume_hu) for index in indices]
    return quality_of(found, series.pixel_spacing, indices)


def quality_of(
    slices: Sequence[SlicePixels], pixel_spacing: tuple[float, float], slice_indices: tuple[int, ...]
) -> SeriesQuality:
    """The same of slices that have been read already.

    Args:
        slices: of one series, at least one.
        pixel_spacing: mm between rows, between columns.
        slice_indices: where they lie in their series.
    """
    hu, paddings = [pixels.hu for pixels in slices], [pixels.padding for pixels in slices]
    noise = measure_noise(hu, pixel_spacing, paddings)
    return SeriesQuality(noise, measure_sharpness(hu, pixel_spacing, paddings), slice_indices)
