"""The noise of real slices, by method, in the regions that the reference chose."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctsr.hu import FloatArray
from ctsr.progress import SILENT, Progress
from ctsr.quality.noise_spectrum import NoiseSpectrum, PowerMap, power_map, spectrum_of
from ctsr.quality.regions import Region, cut, homogeneous_regions

__all__ = ["REFERENCE", "NoiseSlice", "NoiseStudy", "noise_study"]

REFERENCE = "HR"
"""What the reference is called among the methods."""


@dataclass(frozen=True, eq=False)
class NoiseSlice:
    """One slice as every method shows it."""

    reference: FloatArray
    """(rows, columns), HU."""
    images: Mapping[str, FloatArray]
    """Method → the same shape, HU."""
    padding: npt.NDArray[np.bool_] | None = None
    """True where nothing was reconstructed."""


@dataclass(frozen=True)
class NoiseStudy:
    """The noise of real slices."""

    pixel_mm: float
    slices: int
    """How many were looked at, those without a homogeneous region among them."""
    regions: tuple[tuple[Region, ...], ...]
    """Of each slice."""
    spectra: dict[str, NoiseSpectrum]
    """`REFERENCE` and each method; empty where no slice has a homogeneous region."""


def noise_study(
    slices: Iterable[NoiseSlice], pixel_mm: float, *, size: int = 32, most: int = 6, progress: Progress = SILENT
) -> NoiseStudy:
    """Noise power spectra over slices, which are taken one at a time.

    Args:
        slices: of one pixel size and with the same methods.
        pixel_mm: side of their pixels.
        size: side of a region, pixels.
        most: regions of a slice.
        progress: hears of each slice.
    """
    maps: dict[str, list[PowerMap]] = {}
    regions = list[tuple[Region, ...]]()
    for one in progress.track(slices, total=None, what="noise"):
        found = homogeneous_regions(one.reference, size=size, most=most, padding=one.padding)
        regions.append(found)
        if not found:
            continue
        for name, image in {REFERENCE: one.reference, **one.images}.items():
            # Weighted by regions, so that every region counts alike.
            maps.setdefault(name, []).append(power_map(cut(image, found), pixel_mm) * len(found))
    count = sum(len(found) for found in regions)
    spectra = {
        name: spectrum_of([np.sum(weighted, axis=0) / count], pixel_mm, count) for name, weighted in maps.items()
    }
    return NoiseStudy(pixel_mm, len(regions), tuple(regions), spectra)
