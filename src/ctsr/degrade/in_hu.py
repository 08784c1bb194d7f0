"""One slice in HU, degraded: what `degrade` does to tensors in [-1, 1], for whoever reckons in HU."""

import torch

from ctsr.degrade.apply import degrade
from ctsr.degrade.degradation import DegradationParams
from ctsr.degrade.projected import WholeSlice
from ctsr.hu import FloatArray, HURange

__all__ = ["degrade_hu"]


def degrade_hu(
    hr_hu: FloatArray,
    params: DegradationParams,
    noise_seed: int,
    *,
    scale: int,
    hu_range: HURange,
    antialias: bool = False,
    pixel_mm: float | None = None,
) -> FloatArray:
    """Make the LR slice of an HR slice, with the bits of `degrade`.

    Args:
        hr_hu: (rows, columns), HU; clipped to `hu_range`.
        params: see `Degradation.sample`.
        noise_seed: names the noise field; of no effect where `params` has no noise.
        scale: divides rows and columns.
        hu_range: what the network sees as [-1, 1].
        antialias: see `Degradation.antialias`.
        pixel_mm: side of a pixel of a whole slice, which noise of projections needs.

    Returns:
        (rows/scale, columns/scale), HU, within `hu_range`.

    Raises:
        DomainError: the size is not a multiple of `scale`, or noise of projections lacks `pixel_mm`.
    """
    unit = torch.from_numpy(hu_range.to_unit(hr_hu))[None, None]
    whole = None if pixel_mm is None else WholeSlice(pixel_mm, hu_range)
    lr = degrade(unit, [params], [noise_seed], scale=scale, antialias=antialias, whole=whole)
    return hu_range.to_hu(lr[0, 0].numpy())
