"""`python -m benchmarks.conditions ROOT …`: what is estimated of LR images whose degradation is known, and its cost.

For a few slices of every series below each ROOT, at several blurs: the estimated blur and noise, and the PSNR that a
conditional model loses when it is told the estimates in place of what LR was made with.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from ctsr.degrade import Degradation, DegradationParams, degrade_hu
from ctsr.evaluate.methods import ModelUnderTest, load_model_under_test
from ctsr.exams import read_slice, scan
from ctsr.infer.conditions import SAMPLE_SLICES, drawn_conditions, estimated_conditions
from ctsr.models.conditioning import Conditions
from ctsr.padding import SlicePixels
from ctsr.series import Series
from ctsr.series_quality import spread_indices
from ctsr.volume import VoxelsHU

BLURS = (0.0, 0.5, 0.8, 1.1)
"""HR pixels."""
NOISE_HU = 5.0


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", type=Path, nargs="+", metavar="ROOT", help="folders of patients, or single series")
    parser.add_argument("--model", default="ctsr-x2", help="conditional: bundled model, run folder or checkpoint")
    parser.add_argument("--slices", type=int, default=SAMPLE_SLICES, help="of each series")
    given = parser.parse_args()
    model = load_model_under_test(given.model, device="cpu")
    print(f"{given.model}, SHA-256 {model.model.sha256}; noise of {NOISE_HU:g} HU is added to LR\n")
    print("| series | kernel | blur | estimated | noise estimated, HU | PSNR told what is, dB | told estimates |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for root in given.roots:
        for series in scan(root).all_series():
            _series(series, model, given.slices)


def _series(series: Series, model: ModelUnderTest, count: int) -> None:
    scale, hu_range = model.scale, model.hu_range
    hr = [_whole(read_slice(series, index).hu, scale) for index in spread_indices(len(series.slices), count)]
    spacing = scale * series.pixel_spacing[0], scale * series.pixel_spacing[1]
    for blur in BLURS:
        kernel = Degradation(scale=scale).kernel_for(blur)
        params = DegradationParams(blur if kernel > 1 else 0.0, kernel, NOISE_HU / hu_range.hu_per_unit, 1.0)
        lr = [
            degrade_hu(image, params, seed, scale=scale, hu_range=hu_range).astype(np.float32)
            for seed, image in enumerate(hr)
        ]
        estimated = estimated_conditions([SlicePixels(image, None) for image in lr], spacing, scale, hu_range)
        known, blind = (_psnr(lr, hr, model, told) for told in (drawn_conditions(params, scale), estimated))
        noise_hu = estimated.noise_sigma * hu_range.hu_per_unit
        print(
            f"| {series.path.name} | {series.kernel} | {blur:g} | {estimated.blur_sigma:.2f} | {noise_hu:.1f} "
            f"| {known:.2f} | {blind - known:+.2f} |",
            flush=True,
        )


def _psnr(lr: list[VoxelsHU], hr: list[VoxelsHU], model: ModelUnderTest, told: Conditions) -> float:
    """Mean over slices, on the model's range, dB."""
    found = list[float]()
    for small, large in zip(lr, hr, strict=True):
        unit = torch.from_numpy(model.hu_range.to_unit(small))[None, None]
        sr = model.super_resolve(unit.float(), told)[0, 0].numpy()
        error = (sr - model.hu_range.to_unit(large)) / 2
        found.append(float(-10 * np.log10(np.mean(error**2))))
    return float(np.mean(found))


def _whole(image: VoxelsHU, scale: int) -> VoxelsHU:
    """Rows and columns that the scale divides."""
    rows, columns = image.shape
    return image[: rows - rows % scale, : columns - columns % scale]


if __name__ == "__main__":
    main()
