"""`python -m benchmarks.conditions ROOT …`: what is estimated of LR images whose degradation is known, and its cost.

For a few slices of every series below each ROOT, at several blurs: the estimated blur and noise, and the PSNR that a
conditional model loses when it is told the estimates in place of what LR was made with. With `--fit`, the weights that
estimates are made with (`BLUR_FROM`) are fitted anew on the training patients below each ROOT.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from ctsr.degrade import Degradation, DegradationParams, degrade_hu
from ctsr.degrade.degradation import NoiseModel
from ctsr.evaluate.methods import ModelUnderTest, load_model_under_test
from ctsr.exams import read_slice, scan
from ctsr.hashing import rng_from
from ctsr.hu import DEFAULT_RANGE, HURange
from ctsr.infer.conditions import (
    SAMPLE_SLICES,
    TOWARDS_SAFETY,
    blur_features,
    body_spectrum,
    drawn_conditions,
    estimated_conditions,
)
from ctsr.models.conditioning import Conditions
from ctsr.padding import SlicePixels
from ctsr.series import Series
from ctsr.series_quality import spread_indices
from ctsr.volume import VoxelsHU

Features: TypeAlias = npt.NDArray[np.float64]

SPLIT = Path("recipes/split.json")
BLURS = (0.0, 0.5, 0.8, 1.1)
"""HR pixels."""
NOISE_HU = 5.0


FITTED_BLURS = {2: (0.0, 0.3, 0.5, 0.8, 1.1, 1.3), 4: (0.0, 0.5, 0.9, 1.3, 1.7, 2.1)}
"""HR pixels by scale."""
FITTED_NOISE_HU = (0.0, 2.0, 5.0, 9.0, 14.0)
WHITE_SHARE = 0.7
"""Of the images that weights are fitted on; the noise of the others is correlated."""
SERIES_A_PATIENT = 2
RIDGE = 0.005
"""Of the number of images, on features of unit variance."""


def main() -> None:
    """Print the table as Markdown, or the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", type=Path, nargs="+", metavar="ROOT", help="folders of patients, or single series")
    parser.add_argument("--model", default="ctsr-x2", help="conditional: bundled model, run folder or checkpoint")
    parser.add_argument("--slices", type=int, default=SAMPLE_SLICES, help="of each series")
    parser.add_argument("--part", help="only patients of this part of recipes/split.json")
    parser.add_argument("--fit", type=int, choices=list(FITTED_BLURS), metavar="SCALE", help="fit the weights: 2 or 4")
    given = parser.parse_args()
    if given.fit:
        fit(given.roots, given.fit)
        return
    model = load_model_under_test(given.model, device="cpu")
    print(f"{given.model}, SHA-256 {model.model.sha256}; noise of {NOISE_HU:g} HU is added to LR\n")
    print("| series | kernel | blur | estimated | noise estimated, HU | PSNR told what is, dB | told estimates |")
    print("|---|---|---:|---:|---:|---:|---:|")
    lost: dict[float, list[float]] = {blur: [] for blur in BLURS}
    for series in _all_series(given.roots, given.part):
        for blur, loss in _series(series, model, given.slices):
            lost[blur].append(loss)
    print("\n| blur | series | mean, dB | worst, dB | within 0.5 dB |\n|---:|---:|---:|---:|---:|")
    for blur, losses in lost.items():
        within = sum(loss >= -0.5 for loss in losses)
        print(f"| {blur:g} | {len(losses)} | {np.mean(losses):+.2f} | {min(losses):+.2f} | {within} |")


def _all_series(roots: list[Path], part: str | None) -> Iterator[Series]:
    """Every series below the roots whose patient is of a part; of any patient where it is None."""
    chosen = None
    if part is not None:
        patients = json.loads(SPLIT.read_text(encoding="utf-8"))["splits"][part]
        chosen = {patient["patient_id"] for patient in patients}
    for root in roots:
        for folder in sorted(path for path in root.iterdir() if path.is_dir()) if chosen is not None else (root,):
            if chosen is None or folder.name in chosen:
                yield from scan(folder).all_series()


def fit(roots: list[Path], scale: int) -> None:
    """Print the weights of `BLUR_FROM` for a scale, and how far off they are on patients they were not fitted on."""
    rows, variances, patients, edges = list[Features](), list[float](), list[str](), list[float]()
    seen = Counter[str]()
    for series in _all_series(roots, "train"):
        patient = series.patient_id
        seen[patient] += 1
        if seen[patient] > SERIES_A_PATIENT:
            continue
        for blur in FITTED_BLURS[scale]:
            features = _features(series, scale, blur)
            if features is not None:
                rows.append(features)
                variances.append(blur**2)
                patients.append(patient)
                edges.append(float(features[0]))
    features, wanted, names = np.stack(rows), np.array(variances), np.array(patients)
    apart = np.zeros(len(wanted))
    for patient in set(patients):
        own = names == patient
        first, others = _ridge(features[~own], wanted[~own])
        apart[own] = first + features[own] @ others - wanted[own]
    deviation = float(np.sqrt(np.mean(apart**2)))
    first, others = _ridge(features, wanted)
    weights = (first - TOWARDS_SAFETY * deviation, *others.tolist())
    print(f"{len(rows)} images of {len(seen)} patients, median edge {np.median(edges):.3f} LR pixels²")
    print(f"{scale}: ({', '.join(f'{weight:.4g}' for weight in weights)}),")
    print(f"variance off by {deviation:.3f} HR pixels² on patients that were left out")


def _features(series: Series, scale: int, blur: float) -> Features | None:
    """Of a few slices, degraded with a noise that is drawn."""
    slices = spread_indices(len(series.slices), min(SAMPLE_SLICES, len(series.slices)))
    hr = [_whole(read_slice(series, index).hu, scale) for index in slices]
    rng = rng_from("benchmarks.conditions", series.patient_id, series.series_uid, repr(blur))
    noise = float(rng.choice(FITTED_NOISE_HU)) / DEFAULT_RANGE.hu_per_unit
    model: NoiseModel = "white" if rng.random() < WHITE_SHARE else "correlated"
    params = replace(_params(blur, scale), noise_sigma=noise, noise_model=model)
    lr = [_degraded(image, params, seed, scale, DEFAULT_RANGE) for seed, image in enumerate(hr)]
    spectrum = body_spectrum(lr)
    spacing = scale * series.pixel_spacing[0], scale * series.pixel_spacing[1]
    return None if spectrum is None else blur_features(lr, spacing, spectrum)


def _ridge(features: Features, wanted: Features) -> tuple[float, Features]:
    """The constant and the weights of a linear fit, small ones preferred."""
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    units = (features - mean) / deviation
    normal = units.T @ units + RIDGE * len(units) * np.eye(units.shape[1])
    weights = np.linalg.solve(normal, units.T @ (wanted - wanted.mean())) / deviation
    return float(wanted.mean() - mean @ weights), weights


def _params(blur: float, scale: int) -> DegradationParams:
    kernel = Degradation(scale=scale).kernel_for(blur)
    return DegradationParams(blur if kernel > 1 else 0.0, kernel, 0.0, 1.0)


def _degraded(image: VoxelsHU, params: DegradationParams, seed: int, scale: int, hu_range: HURange) -> SlicePixels:
    lr = degrade_hu(image, params, seed, scale=scale, hu_range=hu_range)
    return SlicePixels(lr.astype(np.float32), None)


def _series(series: Series, model: ModelUnderTest, count: int) -> Iterator[tuple[float, float]]:
    """Print a row for each blur; yields the blur, and what estimates gain, dB."""
    scale, hu_range = model.scale, model.hu_range
    indices = spread_indices(len(series.slices), min(count, len(series.slices)))
    hr = [_whole(read_slice(series, index).hu, scale) for index in indices]
    spacing = scale * series.pixel_spacing[0], scale * series.pixel_spacing[1]
    for blur in BLURS:
        params = replace(_params(blur, scale), noise_sigma=NOISE_HU / hu_range.hu_per_unit)
        lr = [_degraded(image, params, seed, scale, hu_range) for seed, image in enumerate(hr)]
        estimated = estimated_conditions(lr, spacing, scale, hu_range)
        images = [pixels.hu for pixels in lr]
        known, blind = (_psnr(images, hr, model, told) for told in (drawn_conditions(params, scale), estimated))
        noise_hu = estimated.noise_sigma * hu_range.hu_per_unit
        print(
            f"| {series.path.name} | {series.kernel} | {blur:g} | {estimated.blur_sigma:.2f} | {noise_hu:.1f} "
            f"| {known:.2f} | {blind - known:+.2f} |",
            flush=True,
        )
        yield blur, blind - known


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
