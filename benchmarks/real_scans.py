"""`python -m benchmarks.real_scans ROOT …`: what `ctsr upscale` does to real series, beside bicubic and its bounds.

A few slices of every series below each ROOT are super-resolved at the default strength, or the one that is named; every
bound of `ctsr.quality` is printed with its figure. Into homogeneous tissue faint discs are put as well: the share of
their contrast that is left says what denoising takes of anatomy. A series with rods (a Catphan) also shows their edges.
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from ctsr.checkpoint import Model, find_model
from ctsr.errors import CtsrError, DomainError
from ctsr.exams import read_slice, scan
from ctsr.infer import SliceSuperResolver
from ctsr.infer.conditions import StrengthName
from ctsr.models.conditioning import Conditions
from ctsr.models.interpolation import enlarge
from ctsr.padding import SlicePixels
from ctsr.physics.real_scan import measure_scan
from ctsr.quality import BOUNDS, SourceAndResult, check, measure_before_after
from ctsr.quality.noise import Region, homogeneous_regions
from ctsr.series import Series
from ctsr.series_quality import spread_indices
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.tuning import Sample, super_resolve_sample
from ctsr.volume import VoxelsHU

SLICES = 3
DISC_MM, DISC_HU = 3.0, 15.0
"""Diameter and contrast of a faint disc: a sulcus, a small vessel, a lesion that is hard to see."""
DISC_BLUR = 0.7
"""Source pixels, standard deviation: a disc is as sharp as a soft kernel leaves it."""
REGION = 24
"""Source pixels along each side of the homogeneous squares that receive a disc in their middle."""


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", type=Path, nargs="+", metavar="ROOT", help="folders of patients, or single series")
    parser.add_argument("--model", default="ctsr-x2", help="bundled model, run folder or checkpoint")
    parser.add_argument("--strength", choices=get_args(StrengthName), default=UpscaleOptions().strength)
    parser.add_argument("--slices", type=int, default=SLICES, help="of each series")
    given = parser.parse_args()
    generator = find_model(given.model)
    options = UpscaleOptions(strength=given.strength)
    print(
        f"{given.model}, SHA-256 {generator.sha256}, strength {given.strength}, {given.slices} slices of each series\n"
    )
    names = " | ".join(bound.name for bound in BOUNDS)
    print(f"| series | kernel | noise HU | network | {names} | bias to the rim | disc left | kept |")
    print("|---|---|---:|---:|" + "---:|" * (len(BOUNDS) + 2) + "---|")
    rods = list[str]()
    for root in given.roots:
        for series in scan(root).all_series():
            try:
                rods += _series(series, generator, options, given.slices)
            except CtsrError as error:
                print(f"| {_name(series)} | {series.kernel} | {error} |")
    if rods:
        print("\n| series | image | rods | number | edge 10–90 %, mm | MTF50, 1/mm | noise HU |")
        print("|---|---|---|---:|---:|---:|---:|", *rods, sep="\n")


def _series(series: Series, generator: Model, options: UpscaleOptions, count: int) -> list[str]:
    """Print the row of a series; the rows of its rods, where it has some."""
    slices = [read_slice(series, index) for index in spread_indices(len(series.slices), count)]
    scale = generator.architecture.scale
    sample = super_resolve_sample(slices, generator, series.pixel_spacing, options)
    pairs = [SourceAndResult(s.hu, result, s.padding) for s, result in zip(slices, sample.results, strict=True)]
    measured = measure_before_after(pairs, scale=scale, pixel_spacing=series.pixel_spacing, others=sample.bicubic)
    checked = check(measured, sample.tuning.bicubic)
    cells = " | ".join("–" if c.value is None else f"{c.value:.2f} ≤ {c.limit:.2f}" for c in checked)
    broken = [c.bound.name for c in checked if not c.kept]
    rim = "–" if measured.largest_bias_to_the_rim_hu is None else f"{measured.largest_bias_to_the_rim_hu:.2f}"
    noise = "–" if measured.source_noise_hu is None else f"{measured.source_noise_hu:.1f}"
    disc = disc_contrast(slices, sample.results, sample.resolver, sample.tuning.conditions, series.pixel_spacing[0])
    print(
        f"| {_name(series)} | {series.kernel} | {noise} | {sample.tuning.network_share:.0%} | {cells} "
        f"| {rim} | {'–' if disc is None else f'{disc:.2f}'} | {'yes' if not broken else 'no: ' + ', '.join(broken)} |",
        flush=True,
    )
    return list(_rods(series, [s.hu for s in slices], sample, scale))


def disc_contrast(
    slices: Sequence[SlicePixels],
    results: Sequence[VoxelsHU],
    resolver: SliceSuperResolver,
    conditions: Conditions | None,
    pixel_mm: float,
) -> float | None:
    """How much of the contrast of faint discs a result shows; None where no tissue is homogeneous.

    Args:
        slices: of the series, HU.
        results: what was made of them.
        resolver: what made it.
        conditions: what it was told.
        pixel_mm: side of their pixels.

    Returns:
        Mean over all discs, bright and dark by turns, of the difference that the disc makes to the mean of its area in
        the result, over the same in bicubic interpolation.
    """
    shares = list[float]()
    for pixels, result in zip(slices, results, strict=True):
        regions = homogeneous_regions(pixels.hu, size=REGION, most=8, padding=pixels.padding)
        radius = DISC_MM / 2 / pixel_mm
        added = np.zeros(pixels.hu.shape)
        for index, region in enumerate(regions):
            distance = _distance(pixels.hu.shape, region, 1)
            added += (-1) ** index * DISC_HU * np.clip(radius + 0.5 - distance, 0, 1)
        added = ndimage.gaussian_filter(added, DISC_BLUR).astype(np.float32)
        with_discs = replace(pixels, hu=pixels.hu + added)
        change = resolver(with_discs, conditions).hu - result
        scale = resolver.scale
        smooth = enlarge(torch.from_numpy(added)[None, None], scale, "bicubic")[0, 0].numpy()
        for region in regions:
            inside = _distance(change.shape, region, scale) <= radius
            shares.append(float(change[inside].mean() / smooth[inside].mean()))
    return statistics.fmean(shares) if shares else None


def _distance(shape: tuple[int, ...], region: Region, scale: int) -> npt.NDArray[np.float64]:
    """Of every pixel from the middle of a region, in source pixels; `shape` is `scale` times finer."""
    rows = (np.arange(shape[0]) + 0.5) / scale - (region.row + region.size / 2)
    columns = (np.arange(shape[1]) + 0.5) / scale - (region.column + region.size / 2)
    return np.hypot(rows[:, None], columns)


def _rods(series: Series, sources: list[VoxelsHU], sample: Sample, scale: int) -> Iterator[str]:
    fine = (series.pixel_spacing[0] / scale, series.pixel_spacing[1] / scale)
    images = {
        "as it is": (sources, series.pixel_spacing),
        "bicubic": (sample.bicubic, fine),
        "super-resolved": (sample.results, fine),
    }
    for name, (slices, spacing) in images.items():
        try:
            found = measure_scan(slices, spacing, kind="rods")
        except DomainError:
            return  # a patient, or a phantom without rods
        noise = "–" if found.noise.sigma_hu is None else f"{found.noise.sigma_hu:.1f}"
        for part in found.objects:
            width = "–" if part.width_mm is None else f"{part.width_mm:.2f}"
            mtf50 = "–" if part.transfer.mtf50_per_mm is None else f"{part.transfer.mtf50_per_mm:.3f}"
            yield f"| {_name(series)} | {name} | {part.name} | {part.count} | {width} | {mtf50} | {noise} |"


def _name(series: Series) -> str:
    return series.path.name


if __name__ == "__main__":
    main()
