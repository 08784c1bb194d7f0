"""What conditional networks are told of each LR slice of an evaluation or of the viewer."""

from functools import lru_cache

import numpy as np

from ctsr.data.hu_cache import StoredSeries
from ctsr.data.pairs import centered_crop, slice_pair
from ctsr.degrade import DegradationSampler
from ctsr.evaluate.options import ConditionsSource
from ctsr.hu import HURange
from ctsr.infer.conditions import SAMPLE_SLICES, drawn_conditions, estimated_conditions
from ctsr.models.conditioning import Conditions
from ctsr.padding import SlicePixels
from ctsr.quality.before_after import block_means
from ctsr.series_quality import spread_indices


def told_conditions(
    source: ConditionsSource, stored: StoredSeries, index: int, sampler: DegradationSampler, hu_range: HURange
) -> Conditions:
    """Blur and noise that a conditional network is told of one LR slice.

    Where `source` is `estimated` and all slices of a series share one draw, they are measured once, in a few slices of
    the series, as `ctsr upscale` does; where each slice has its own draw, in that slice.

    Args:
        source: what to tell.
        stored: the series.
        index: of the slice.
        sampler: what its LR is made with.
        hu_range: HU that the network sees as [-1, 1].
    """
    match source.kind:
        case "drawn":
            draw = sampler.draw(stored.patient_id, stored.series_uid, stored.identities[index], index)
            if draw.params.noise_model == "exam":
                return _measured_dose(stored, index, sampler, hu_range)
            return drawn_conditions(draw.params, sampler.degradation.scale)
        case "fixed":
            return Conditions(source.blur_sigma, source.noise_hu / hu_range.hu_per_unit)
        case "estimated":
            whole_series = sampler.sampling == "volume"
            indices = spread_indices(len(stored), SAMPLE_SLICES) if whole_series else (index,)
            return _estimated(stored, indices, sampler, hu_range)


@lru_cache(maxsize=64)
def _measured_dose(stored: StoredSeries, index: int, sampler: DegradationSampler, hu_range: HURange) -> Conditions:
    """Noise of an exam at less dose is known when its LR has been made."""
    params = slice_pair(stored, index, sampler, hu_range).draw.params
    return drawn_conditions(params, sampler.degradation.scale)


@lru_cache(maxsize=64)
def _estimated(
    stored: StoredSeries, indices: tuple[int, ...], sampler: DegradationSampler, hu_range: HURange
) -> Conditions:
    scale = sampler.degradation.scale
    slices = [_lr_pixels(stored, index, sampler, hu_range) for index in indices]
    row_mm, column_mm = stored.pixel_spacing
    return estimated_conditions(slices, (scale * row_mm, scale * column_mm), scale, hu_range)


def _lr_pixels(stored: StoredSeries, index: int, sampler: DegradationSampler, hu_range: HURange) -> SlicePixels:
    """One LR slice as a scanner would deliver it: a pixel is padding where all of its HR pixels are."""
    scale = sampler.degradation.scale
    pair = slice_pair(stored, index, sampler, hu_range)
    lr_hu = hu_range.to_hu(pair.lr[0, 0].numpy()).astype(np.float32, copy=False)
    crop = tuple(centered_crop(size, scale) for size in (stored.rows, stored.columns))
    # Means of 0 and 1: 1 where all are padding.
    whole = block_means(stored.padding(index)[crop].astype(np.float32), scale) == 1
    return SlicePixels(lr_hu, whole if whole.any() else None)
