"""How a series is super-resolved: chosen from a few of its slices and recorded, then applied to all of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from ctsr.checkpoint import Meta, Model
from ctsr.degrade import Degradation
from ctsr.infer import SliceSuperResolver, TorchEngine
from ctsr.infer.conditions import MOST_NOISE, STRENGTHS, Strength, beyond_training
from ctsr.models.conditioning import Conditions
from ctsr.models.interpolation import enlarge
from ctsr.padding import SlicePixels
from ctsr.quality import BeforeAfter, SourceAndResult, check, measure_before_after, noise_ratio
from ctsr.quality.noise import NoiseEstimate, homogeneous_windows, measure_noise
from ctsr.reporting import counted, listed
from ctsr.upscale import UpscaleOptions
from ctsr.volume import VoxelsHU

MOST_NOISE_RATIO = 1.0
"""Noise of a result over that of its source, with `limit_noise`."""
MORE_NOISE = 0.02
"""Share by which a network may be noisier than interpolation, where that is noisier than the source already."""
REMEDIES = {
    "noise out/in": "; a larger `denoise` leaves less",
    "overshoot": "; a smaller `sharpen` leaves less",
    "agreement": "; a smaller `denoise`, or `consistent`, keeps more of the source",
}
"""What to do about a bound that is not kept, for a model that can be told."""
HALVINGS = 12
"""Steps in which the network's share is found."""


@dataclass(frozen=True)
class Tuning:
    """What a series is super-resolved with, and what that does to a few of its slices."""

    strength: Strength | None
    """What was asked for; None for a model that cannot be told."""
    conditions: Conditions | None
    """What the network is told; None for a model that cannot be."""
    network_share: float
    """The rest is bilinear interpolation; below 1 where the result would be noisier than its source."""
    noise: NoiseEstimate
    """Of the source."""
    before_after: BeforeAfter
    bicubic: BeforeAfter
    """The same of bicubic interpolation."""
    consistent: bool = False
    """Whether the source's noise was given back."""

    def apply_to(self, resolver: SliceSuperResolver) -> SliceSuperResolver:
        """The super-resolver for the whole series."""
        return replace(resolver, network_share=self.network_share)

    def warnings(self, meta: Meta | None = None) -> list[str]:
        """A line for each bound that is not kept, for noise that is not known, and for the network's share.

        Also for what the network is told and its training did not draw, where `meta` says what it drew.
        """
        broken = [checked for checked in check(self.before_after, self.bicubic) if not checked.kept]
        remedies = {} if self.strength is None else dict(REMEDIES)
        if self.consistent:
            remedies["noise out/in"] = "; `consistent` gives the source's noise back"
        lines = [checked.warning + remedies.get(checked.bound.name, "") for checked in broken]
        lines += unmeasured(self.noise, 0.0 if self.strength is None else self.strength.denoise)
        if self.network_share < 1:
            lines.append(
                f"the model alone would be noisier than the source: {1 - self.network_share:.0%} interpolation is "
                "mixed in (`limit_noise=False` leaves that out)"
            )
        if self.conditions is not None and meta is not None:
            lines += beyond_training(self.conditions, Degradation.from_dict(meta.degradation), meta.hu_range)
        return lines

    def plain(self, hu_per_unit: float) -> dict[str, object]:
        """For run.json: noise in HU, blur in pixels of the result, the anchor in pixels of the source."""
        told = self.conditions
        return {
            "strength": None if self.strength is None else asdict(self.strength),
            "told": told
            and {
                "blur_sigma_px": told.blur_sigma,
                "noise_hu": told.noise_sigma * hu_per_unit,
                "anchor_px": told.anchor,
            },
            "network_share": self.network_share,
            "noise": asdict(self.noise),
            "before_after": asdict(self.before_after),
            "bicubic": asdict(self.bicubic),
        }


class Sample(NamedTuple):
    """A few super-resolved slices of a series."""

    tuning: Tuning
    resolver: SliceSuperResolver
    """What made the results, told `tuning.conditions`."""
    results: list[VoxelsHU]
    """(scale·rows, scale·columns) each, HU."""
    bicubic: list[VoxelsHU]
    """The same by interpolation."""


def strength_of(options: UpscaleOptions) -> Strength:
    """The strength that options ask for."""
    named = STRENGTHS[options.strength]
    return Strength(
        named.denoise if options.denoise is None else options.denoise,
        named.sharpen if options.sharpen is None else options.sharpen,
    )


def unmeasured(noise: NoiseEstimate, denoise: float) -> list[str]:
    """A line where noise is to be removed that cannot be measured."""
    if denoise == 0 or noise.sigma_hu is not None:
        return []
    return [f"its noise cannot be measured ({noise.reason}): the model is told of none and removes none"]


def noise_told_between(noise: NoiseEstimate, denoise: float | None) -> float:
    """What a network between slices is told of the noise of its slices, HU.

    None unless `denoise` asks for it: projection would bring back what was removed.
    """
    return (noise.sigma_hu or 0.0) * (denoise or 0.0) * MOST_NOISE


def unheard(options: UpscaleOptions, *, conditional: bool | None) -> list[str]:
    """A line about options that were given and that change nothing.

    Args:
        options: the strength that is wanted.
        conditional: whether the network in plane is told blur and noise; None where there is none.
    """
    untold = [] if conditional else ["strength", "denoise", "sharpen"]
    untold += ["limit_noise", "consistent"] if conditional is None else []
    if options.wanted_slice_spacing is not None:
        untold = [name for name in untold if name != "denoise"]  # the noise that is not projected back
    given = [f"`{name}`" for name in untold if getattr(options, name) != getattr(UpscaleOptions(), name)]
    why = "without a model in plane" if conditional is None else "with a model that is not told blur and noise"
    return [f"{listed(given, len(given))}: no effect {why}"] if given else []


def beyond_range(slices: int, highest_hu: float) -> list[str]:
    """A line about slices of a source that hold values no network is asked about; none where there are none.

    Args:
        slices: how many.
        highest_hu: the upper end of the network's range.
    """
    return [f"{counted(slices, 'slice')} with values above {highest_hu:g} HU: interpolated there"] if slices else []


def conditions_of(noise: NoiseEstimate, resolver: SliceSuperResolver, options: UpscaleOptions) -> Conditions | None:
    """What a conditional network is told of a series with this noise; None for a network that cannot be told."""
    if not resolver.conditional:
        return None
    return strength_of(options).conditions(noise.sigma_hu or 0.0, resolver.scale, resolver.hu_range)


def tune(
    slices: Sequence[SlicePixels],
    resolver: SliceSuperResolver,
    pixel_spacing: tuple[float, float],
    options: UpscaleOptions,
) -> Tuning:
    """Measure the noise of a series, choose what the network is told, and see what comes of it.

    Args:
        slices: a few of the series, HU.
        resolver: with the whole share of the network.
        pixel_spacing: of the source, mm between rows, between columns.
        options: the strength that is wanted, and whether noise is limited.
    """
    noise = measure_noise([pixels.hu for pixels in slices], pixel_spacing, [pixels.padding for pixels in slices])
    conditions = conditions_of(noise, resolver, options)
    interpolating = replace(resolver, network_share=0.0)
    tried = [_Tried(pixels, resolver(pixels, conditions).hu, interpolating(pixels, conditions).hu) for pixels in slices]
    share = _largest_quiet_share(tried, resolver.scale, pixel_spacing) if options.limit_noise else 1.0
    smooth = [SourceAndResult(pixels.hu, _bicubic(pixels, resolver.scale), pixels.padding) for pixels in slices]
    return Tuning(
        strength=strength_of(options) if resolver.conditional else None,
        conditions=conditions,
        network_share=share,
        noise=noise,
        before_after=_compared(tried, share, resolver.scale, pixel_spacing),
        bicubic=measure_before_after(smooth, scale=resolver.scale, pixel_spacing=pixel_spacing),
        consistent=options.consistent,
    )


def super_resolve_sample(
    slices: Sequence[SlicePixels],
    model: Model,
    pixel_spacing: tuple[float, float],
    options: UpscaleOptions | None = None,
) -> Sample:
    """A few slices of a series, as `ctsr upscale` would make them, for measuring.

    Args:
        slices: of one series, HU.
        model: the model.
        pixel_spacing: of the source, mm between rows, between columns.
        options: the defaults when left out.
    """
    resolver = SliceSuperResolver(
        TorchEngine(model.net),
        model.architecture.scale,
        model.hu_range,
        conditional=model.architecture.conditional,
    )
    tuning = tune(slices, resolver, pixel_spacing, options or UpscaleOptions())
    chosen = tuning.apply_to(resolver)
    results = [chosen(pixels, tuning.conditions).hu for pixels in slices]
    return Sample(tuning, chosen, results, [_bicubic(pixels, resolver.scale) for pixels in slices])


class _Tried(NamedTuple):
    """One slice, by the network and by interpolation; every mixture lies on the line between them."""

    pixels: SlicePixels
    network: VoxelsHU
    interpolated: VoxelsHU

    def mixed(self, share: float) -> SourceAndResult:
        result = self.interpolated + share * (self.network - self.interpolated)
        return SourceAndResult(self.pixels.hu, np.asarray(result, np.float32), self.pixels.padding)


def _largest_quiet_share(tried: Sequence[_Tried], scale: int, pixel_spacing: tuple[float, float]) -> float:
    """The most of the network that leaves the noise at `MOST_NOISE_RATIO`; 1 where noise cannot be measured.

    A consistent result gives the source's noise back, whatever made it: then interpolation, projected as well, sets the
    measure, or nothing would ever be left of the network.
    """
    sources = [slice_tried.pixels for slice_tried in tried]
    windows = homogeneous_windows(
        [pixels.hu for pixels in sources], pixel_spacing, [pixels.padding for pixels in sources]
    )
    if windows is None:
        return 1.0

    def ratio_at(share: float) -> float:
        return noise_ratio([slice_tried.mixed(share) for slice_tried in tried], windows, scale) or 0.0

    least = ratio_at(0.0)
    most = MOST_NOISE_RATIO if least <= MOST_NOISE_RATIO else least * (1 + MORE_NOISE)

    def is_quiet(share: float) -> bool:
        return ratio_at(share) <= most

    if is_quiet(1.0):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_quiet(middle) else (low, middle)
    return low


def _compared(tried: Sequence[_Tried], share: float, scale: int, pixel_spacing: tuple[float, float]) -> BeforeAfter:
    pairs = [slice_tried.mixed(share) for slice_tried in tried]
    return measure_before_after(pairs, scale=scale, pixel_spacing=pixel_spacing)


def _bicubic(pixels: SlicePixels, scale: int) -> VoxelsHU:
    return enlarge(torch.from_numpy(pixels.hu)[None, None], scale, "bicubic")[0, 0].numpy()
