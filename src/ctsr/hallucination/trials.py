"""Lesions sent through degradation and method: how much of each comes back, and whether one appears without it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ctsr.data.pairs import SlicePair
from ctsr.degrade import Degradation, degrade_hu
from ctsr.hallucination.lesions import Lesion, contrast_of, displacement_mm, insert, part_of
from ctsr.hu import FloatArray, HURange
from ctsr.infer import SuperResolver

__all__ = ["LesionImages", "LesionRow", "LesionTrial", "lesion_images", "lesion_table", "lesion_trials"]

VIEW = 64
"""LR pixels along each side of what a method sees around a lesion: a few times what a lesion's edges reach."""


@dataclass(frozen=True, eq=False)
class LesionImages:
    """The part of a slice around a lesion, with it and without it."""

    lesion: Lesion
    """In this part's coordinates."""
    hr_with: FloatArray
    hr_without: FloatArray
    """(rows, columns), HU, clipped to the range."""
    lr_with: FloatArray
    lr_without: FloatArray
    """(rows/scale, columns/scale), HU, with the same noise."""


@dataclass(frozen=True)
class LesionTrial:
    """One lesion and one method."""

    slice_name: str
    method: str
    lesion: Lesion
    """In the slice's coordinates."""
    recovered: float
    """Share of the contrast in HR: 1 is all of it."""
    false_contrast_hu: float
    """Without the lesion: the contrast that SR shows at its place beyond what HR shows there."""
    position_error_mm: float | None
    """None where nothing came back."""

    @property
    def appeared(self) -> bool:
        """Whether, without the lesion, half of its contrast is there all the same."""
        return self.false_contrast_hu * float(np.sign(self.lesion.contrast_hu)) >= abs(self.lesion.contrast_hu) / 2


@dataclass(frozen=True)
class LesionRow:
    """All lesions of one size and contrast that a method was given."""

    method: str
    diameter_mm: float
    contrast_hu: float
    lesions: int
    recovered_mean: float
    recovered_sd: float | None
    """Over lesions; None with one."""
    position_error_mm: float | None
    """Mean of those that came back."""
    false_contrast_sd_hu: float | None
    """Standard deviation, about 0, of what appears without a lesion, over all places measured at this diameter."""
    appeared: float
    """Share of places at which half of the contrast appears without a lesion."""


def lesion_images(
    pair: SlicePair, lesion: Lesion, *, degradation: Degradation, hu_range: HURange, pixel_mm: float
) -> LesionImages:
    """Degrade the slice with the lesion as it was degraded without, noise included, and cut out what lies around it."""
    scale, draw = degradation.scale, pair.draw
    hr = np.clip(pair.hr_hu, hu_range.low, hu_range.high)
    changed = np.clip(insert(pair.hr_hu, lesion, pixel_mm), hu_range.low, hu_range.high)
    antialias = degradation.antialias
    lr = degrade_hu(
        changed,
        draw.params,
        draw.noise_seed,
        scale=scale,
        hu_range=hu_range,
        antialias=antialias,
        pixel_mm=pixel_mm,
    )
    before = hu_range.to_hu(pair.lr[0, 0].cpu().numpy())
    places = (lesion.row / scale, lesion.column / scale)
    top, left = (_start(place, length) for place, length in zip(places, before.shape, strict=True))
    coarse = (slice(top, top + VIEW), slice(left, left + VIEW))
    fine = (slice(scale * top, scale * (top + VIEW)), slice(scale * left, scale * (left + VIEW)))
    here = part_of(lesion, (scale * top, scale * left))
    return LesionImages(here, changed[fine], hr[fine], lr[coarse], before[coarse])


def lesion_trials(
    slice_name: str,
    pair: SlicePair,
    lesions: Iterable[Lesion],
    super_resolvers: Mapping[str, SuperResolver],
    *,
    degradation: Degradation,
    hu_range: HURange,
    pixel_mm: float,
) -> list[LesionTrial]:
    """Try each lesion with each method: two runs of the method on `VIEW`² LR pixels.

    Args:
        slice_name: for the reader.
        pair: HR and the LR made of it.
        lesions: see `LesionSpec.sample`.
        super_resolvers: name → method.
        degradation: how LR was made; the pair's draw says with which parameters.
        hu_range: of the pair.
        pixel_mm: side of an HR pixel.
    """
    trials = list[LesionTrial]()
    for lesion in lesions:
        images = lesion_images(pair, lesion, degradation=degradation, hu_range=hu_range, pixel_mm=pixel_mm)
        truth, ground = (contrast_of(hr, images.lesion, pixel_mm) for hr in (images.hr_with, images.hr_without))
        for method, resolve in super_resolvers.items():
            shown, without = resolve(images.lr_with), resolve(images.lr_without)
            found, false = (contrast_of(sr, images.lesion, pixel_mm) for sr in (shown, without))
            trials.append(
                LesionTrial(
                    slice_name,
                    method,
                    lesion,
                    recovered=(found - false) / (truth - ground),
                    false_contrast_hu=false - ground,
                    position_error_mm=displacement_mm(shown - without, images.lesion, pixel_mm),
                )
            )
    return trials


def lesion_table(trials: Sequence[LesionTrial]) -> list[LesionRow]:
    """One row for each method, diameter and contrast, in the order they first come in."""
    keys = dict.fromkeys((t.method, t.lesion.diameter_mm, t.lesion.contrast_hu) for t in trials)
    return [_row(trials, *key) for key in keys]


def _row(trials: Sequence[LesionTrial], method: str, diameter_mm: float, contrast_hu: float) -> LesionRow:
    same_size = [t for t in trials if t.method == method and t.lesion.diameter_mm == diameter_mm]
    own = [t for t in same_size if t.lesion.contrast_hu == contrast_hu]
    recovered = [t.recovered for t in own]
    errors = [t.position_error_mm for t in own if t.position_error_mm is not None]
    false = np.array([t.false_contrast_hu for t in same_size])
    return LesionRow(
        method=method,
        diameter_mm=diameter_mm,
        contrast_hu=contrast_hu,
        lesions=len(own),
        recovered_mean=float(np.mean(recovered)),
        recovered_sd=float(np.std(recovered, ddof=1)) if len(own) > 1 else None,
        position_error_mm=float(np.mean(errors)) if errors else None,
        false_contrast_sd_hu=float(np.sqrt(np.mean(false**2))) if len(false) > 1 else None,
        appeared=float(np.mean([t.appeared for t in own])),
    )


def _start(place: float, length: int) -> int:
    """First pixel of a view of `VIEW` pixels about a place, moved back where it would leave the image."""
    return max(0, min(round(place) - VIEW // 2, length - VIEW))
