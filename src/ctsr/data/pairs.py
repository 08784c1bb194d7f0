"""Whole slices as evaluation, validation and viewer see them: HR, and the LR that was made from it."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ctsr.data.hu_cache import StoredSeries
from ctsr.degrade import Degradation, DegradationSampler, Draw, WholeSlice, degrade, with_own_noise
from ctsr.hu import DEFAULT_RANGE, HURange
from ctsr.volume import VoxelsHU


def centered_crop(size: int, scale: int) -> slice:
    """The largest centred part of an axis of `size` pixels that `scale` divides."""
    start = (size % scale) // 2
    return slice(start, start + size - size % scale)


@dataclass(frozen=True, eq=False)
class SlicePair:
    """One slice, cropped about its centre to a multiple of the scale, and its degraded twin."""

    lr: Tensor
    """``(1, 1, h, w)`` in [-1, 1]."""
    hr: Tensor
    """``(1, 1, scale·h, scale·w)`` in [-1, 1]."""
    hr_hu: VoxelsHU
    """``(scale·h, scale·w)``, HU: what `hr` was before the model's range clipped it."""
    draw: Draw
    """As drawn; noise of an exam at less dose with the strength that was measured."""


def slice_pair(
    stored: StoredSeries, index: int, sampler: DegradationSampler, hu_range: HURange = DEFAULT_RANGE
) -> SlicePair:
    """Slice `index` of a stored series, degraded as `sampler` draws it: the same bits for every caller."""
    degradation = sampler.degradation
    crop = tuple(centered_crop(size, degradation.scale) for size in (stored.rows, stored.columns))
    draw = sampler.draw(stored.patient_id, stored.series_uid, stored.identities[index], index)
    hr = hu_range.to_unit(stored.hu[index][crop])
    return _pair(hr, stored.slice_hu(index)[crop], draw, degradation, stored.pixel_spacing[0], hu_range)


def image_pair(
    hu: VoxelsHU, index: int, sampler: DegradationSampler, pixel_mm: float, hu_range: HURange = DEFAULT_RANGE
) -> SlicePair:
    """Degrade a slice that belongs to no stored series; its draw depends on `index` and the sampler's seed alone.

    Args:
        hu: (rows, columns) in HU.
        index: of the slice, from 0.
        sampler: draws the degradation.
        pixel_mm: side of a pixel.
        hu_range: HU that networks see as [-1, 1].
    """
    degradation = sampler.degradation
    rows, columns = (centered_crop(size, degradation.scale) for size in hu.shape)
    cropped = hu[rows, columns]
    draw = sampler.draw("", "", str(index), index)
    return _pair(hu_range.to_unit(cropped), cropped, draw, degradation, pixel_mm, hu_range)


def _pair(
    hr_unit: VoxelsHU, hr_hu: VoxelsHU, draw: Draw, degradation: Degradation, pixel_mm: float, hu_range: HURange
) -> SlicePair:
    hr = torch.from_numpy(hr_unit)[None, None]
    whole = WholeSlice(pixel_mm, hu_range)
    degraded = partial(degrade, hr, scale=degradation.scale, antialias=degradation.antialias, whole=whole)
    if draw.params.noise_model == "exam" and draw.params.has_noise:
        clean = degraded([draw.params.noiseless], [0])[0, 0].numpy()
        draw = replace(draw, params=with_own_noise(clean, draw.params, whole, degradation.scale))
    lr = degraded([draw.params], [draw.noise_seed])
    return SlicePair(lr, hr, hr_hu, draw)
