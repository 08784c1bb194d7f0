"""`python -m benchmarks.denoising SERIES …`: what is told of noise, and what comes back of the source.

The middle slice of each SERIES is super-resolved by a conditional model that is told several multiples of the measured
noise, with several widths of the Gaussian whose passband the result keeps of its source (`Conditions.anchor`). Printed
for each: noise out/in, the share that is left of the contrast of a faint disc of 3 mm, the largest bias of a tissue,
and edges against bicubic. The strengths of `ctsr upscale` were chosen by it, see decision 17.
"""

import argparse
import itertools
from pathlib import Path

import torch

from benchmarks.real_scans import disc_contrast
from ctsr.checkpoint import Model, find_model
from ctsr.exams import read_slice, scan
from ctsr.infer import SliceSuperResolver, TorchEngine
from ctsr.infer.conditions import MOST_BLUR, STRENGTHS
from ctsr.models.conditioning import Conditions
from ctsr.models.interpolation import enlarge
from ctsr.quality import SourceAndResult, measure_before_after
from ctsr.quality.noise import measure_noise
from ctsr.series import Series

TOLD = (0.5, 0.75, 1.0, 1.5)
"""Times the measured noise."""
ANCHORS = (2.0, 1.2, 0.8, 0.4)
"""Source pixels."""


def compare(series: Series, model: Model) -> None:
    """Print a row for each multiple and width."""
    pixels = read_slice(series, len(series.slices) // 2)
    noise_hu = measure_noise([pixels.hu], series.pixel_spacing, [pixels.padding]).sigma_hu or 0.0
    scale, unit = model.architecture.scale, model.hu_range.hu_per_unit
    resolver = SliceSuperResolver(TorchEngine(model.net), scale, model.hu_range, conditional=True)
    smooth = enlarge(torch.from_numpy(pixels.hu)[None, None], scale, "bicubic")[0, 0].numpy()
    blur = STRENGTHS["standard"].sharpen * MOST_BLUR[scale]
    for factor, anchor in itertools.product(TOLD, ANCHORS):
        told = Conditions(blur, factor * noise_hu / unit, anchor)
        result = resolver(pixels, told).hu
        pair = SourceAndResult(pixels.hu, result, pixels.padding)
        found = measure_before_after([pair], scale=scale, pixel_spacing=series.pixel_spacing, others=[smooth])
        disc = disc_contrast([pixels], [result], resolver, told, series.pixel_spacing[0])
        figures = (found.noise_ratio, disc, found.largest_bias_hu, found.edge_width_ratio)
        cells = " | ".join("–" if figure is None else f"{figure:.2f}" for figure in figures)
        print(f"| {series.path.name} | {noise_hu:.1f} | {factor:g} | {anchor:g} | {cells} |", flush=True)


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("series", type=Path, nargs="+", metavar="SERIES")
    parser.add_argument("--model", default="ctsr-x2", help="a conditional model, by name or file")
    asked = parser.parse_args()
    model = find_model(asked.model)
    print("| series | noise HU | told, times | kept below, px | noise out/in | disc left | bias | edge width |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for root in asked.series:
        for series in scan(root).all_series():
            compare(series, model)


if __name__ == "__main__":
    main()
